"""Chat models in the engine hf: a prompt in the model's own template, and its answer as the translation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from jinja2 import TemplateError

from xstilts import languages
from xstilts.compute.device import device
from xstilts.errors import UserError
from xstilts.translate.engine import Line
from xstilts.translate.hf import version
from xstilts.translate.model_engine import LONGER, MOST_TOKENS

PROMPT = "Translate the following text from {from} to {to}. Write only the translation.\n\n{text}"
"""`{from}` and `{to}` stand for the languages' English names."""
_THOUGHTS = re.compile(r"\s*<think>.*?(</think>|\Z)", re.DOTALL)


class ChatEngine:
    """A decoder that chats: the most probable answer, token by token, to a prompt with the text."""

    splits, batch = False, 16

    def __init__(self, tokenizer: Any, loaded: Any, model: str, prompt: str, source: str, target: str) -> None:
        if not tokenizer.chat_template:
            hint = "give a model that translates, or a chat model"
            raise UserError("has no chat template, and is no translation model", where=model, hint=hint)
        self._tokenizer, self._model, self._where = tokenizer, loaded.to(device()), model
        tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.pad_token or tokenizer.eos_token
        prompt = prompt or PROMPT
        self._before, self._after = (_filled(part, source, target) for part in prompt.split("{text}"))
        ends = loaded.generation_config.eos_token_id
        self._ends = set(ends if isinstance(ends, list) else [ends])
        self._longest = getattr(loaded.config, "max_position_embeddings", None) or 4 * MOST_TOKENS
        self.identity = {
            "engine": "hf", "model": model, "version": version(model, loaded.config), "beams": "1", "language": target,
            "prompt": f"{self._before}{{text}}{self._after}", "from": source, "to": target,
        }  # fmt: skip

    def translate(self, lines: Sequence[str]) -> list[Line]:
        """The model's answers, without its thoughts.

        Raises:
            UserError: the template does not take a prompt as plain text.
        """
        lengths = self._lengths(lines)
        room = min(LONGER * max(lengths) + 50, self._longest // 2)
        given = [self._shortened(line, self._longest - room) for line in lines]
        inputs = self._tokenizer([self._chat(line) for line in given], padding=True, add_special_tokens=False,
                                 return_tensors="pt").to(device())  # fmt: skip
        with torch.inference_mode():
            output = self._model.generate(
                inputs.input_ids, attention_mask=inputs.attention_mask, num_beams=1, do_sample=False, temperature=None,
                top_p=None, top_k=None, pad_token_id=self._tokenizer.pad_token_id, max_new_tokens=room, max_length=None,
            )  # fmt: skip
        answers = output[:, inputs.input_ids.shape[1] :].tolist()
        return [
            Line(without_thoughts(self._tokenizer.decode(ids, skip_special_tokens=True)),
                 line != whole or not self._ends & set(ids))
            for whole, line, ids in zip(lines, given, answers, strict=True)
        ]  # fmt: skip

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self._tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids]

    def _chat(self, line: str) -> str:
        messages = [{"role": "user", "content": f"{self._before}{line}{self._after}"}]
        try:  # a template that knows no thinking ignores the option
            chat: str = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except TemplateError as error:
            message = f"its chat template takes no plain prompt: {error}"
            raise UserError(message, where=self._where, hint="choose another model") from error
        return chat

    def _shortened(self, line: str, most: int) -> str:
        """The line, or so much of its beginning that it fits with the prompt into `most` tokens."""
        while self._lengths([self._chat(line)])[0] > most and line:
            line = line[: 3 * len(line) // 4]
        return line


def without_thoughts(answer: str) -> str:
    """The answer of a model that thinks first.

    >>> without_thoughts("<think>A cat?</think>Un gato"), without_thoughts("Un gato"), without_thoughts("<think>A")
    ('Un gato', 'Un gato', '')
    """
    return _THOUGHTS.sub("", answer, count=1).strip()


def _filled(prompt: str, source: str, target: str) -> str:
    names = {"{from}": _name(source), "{to}": _name(target)}
    return re.sub(r"\{(?:from|to)\}", lambda hit: names[hit[0]], prompt)


def _name(code: str) -> str:
    """The English name of a language; its code if it has none."""
    known = languages.find(code)
    return known.name if known else code
