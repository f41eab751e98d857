"""Chat models as translators: the prompt in their template, their answer as the translation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from conftest import CliResult
from xstilts.errors import UserError
from xstilts.translate.chat import PROMPT, ChatEngine
from xstilts.translate.engine import EngineSpec
from xstilts.translate.hf import open_engine

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PAIRS = (("the red house", "la casa roja"), ("a cat", "un gato"), ("the old cat sleeps", "el gato viejo duerme"))
NAMES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen": (Qwen2Config, Qwen2ForCausalLM)}


def chat_model(folder: Path, kind: str = "llama", template: str = CHATML, positions: int = 256) -> str:
    """A small chat model that learnt to answer the default prompt for three texts; returns its folder."""
    question = PROMPT.replace("{from}", "English").replace("{to}", "Spanish")
    chats = [
        f"<|im_start|>user\n{question.replace('{text}', text)}<|im_end|>\n<|im_start|>assistant\n" for text, _ in PAIRS
    ]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([*chats, *(answer for _, answer in PAIRS)], vocab_size=400, show_progress=False)
    model = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]], eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )  # fmt: skip
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    config_class, model_class = NAMES[kind]
    torch.manual_seed(2)
    decoder: Any = model_class(
        config_class(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                     num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=positions,
                     eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=None)
    )  # fmt: skip
    given = [tokenizer(chat).input_ids for chat in chats]
    answers = [tokenizer(f"{answer}<|im_end|>").input_ids for _, answer in PAIRS]
    longest = max(len(ids) + len(more) for ids, more in zip(given, answers, strict=True))
    rows = [(ids + more + [0] * longest)[:longest] for ids, more in zip(given, answers, strict=True)]
    labels = [([-100] * len(ids) + more + [-100] * longest)[:longest] for ids, more in zip(given, answers, strict=True)]
    optimizer, loss = torch.optim.AdamW(decoder.parameters(), lr=1e-2), torch.tensor(1.0)
    while loss > 0.01:
        optimizer.zero_grad()
        loss = decoder(input_ids=torch.tensor(rows), labels=torch.tensor(labels)).loss
        loss.backward()
        optimizer.step()
    decoder.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return chat_model(tmp_path_factory.mktemp("chat") / "llama")


@pytest.mark.parametrize("kind", NAMES)
def test_a_chat_model_translates_by_its_answer(kind: str, tmp_path: Path) -> None:
    """Also beside longer lines, which are padded on the left; the prompt and the template's words do not come out."""
    engine = open_engine(chat_model(tmp_path, kind), "", "en", "es")
    assert isinstance(engine, ChatEngine) and not engine.splits
    source, target = zip(*PAIRS, strict=True)
    assert [(line.text, line.cut) for line in engine.translate(source)] == [(text, False) for text in target]
    assert [line for text in source for line in engine.translate([text])] == engine.translate(source)
    assert engine.identity["prompt"].startswith("Translate the following text from English to Spanish.")


def test_the_prompt_is_a_value(llama: str) -> None:
    engine = open_engine(llama, "{from} > {to}: {text} !", "en", "sw")
    assert isinstance(engine, ChatEngine)
    assert engine._chat("a {to} cat") == (
        "<|im_start|>user\nEnglish > Swahili: a {to} cat !<|im_end|>\n<|im_start|>assistant\n"
    )
    assert open_engine(llama, "", "en", "qaa").identity["prompt"].split(" to ")[1].startswith("qaa.")


def test_a_text_too_long_and_an_answer_without_end_count_as_cut(llama: str) -> None:
    engine = open_engine(llama, "", "en", "es")
    short, long = engine.translate(["a cat", "the old cat sleeps " * 80])
    assert (short.cut, long.cut) == (False, True)
    endless = open_engine(llama, "", "en", "es")
    assert isinstance(endless, ChatEngine)
    endless._ends = {-1}
    assert endless.translate(["a cat"])[0].cut


def test_a_task_is_translated_by_a_chat_model(llama: str, tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "dev.tsv").write_text("the red house\tgood\na cat\tbad\n", encoding="utf-8")
    task = tmp_path / "mine.yaml"
    task.write_text("reviews: {format: classify, texts: [text], labels: [good, bad], data: {dev: dev.tsv}}\n")
    arguments = ("--engine", "hf", "--model", llama, "--out", tmp_path / "out", "--use", task)
    result = xstilts("translate", "reviews", "--to", "es", *arguments)
    assert "dev-es.jsonl: 2 rows, 0 left out; 2 lines, 0 unchanged, 0 empty, 0 cut" in result.out, result.err
    assert '"la casa roja"' in (tmp_path / "out/reviews/dev-es.jsonl").read_text(encoding="utf-8")
    for prompt, to, message in [
        ("Translate this.", "es", "--prompt: must have {text} once"),
        ("To Spanish: {text}", "es,sw", "--prompt: is the same for es, sw (write {to} where the language goes)"),
    ]:
        result = xstilts("translate", "reviews", "--to", to, *arguments, "--prompt", prompt)
        assert (result.code, message in result.err) == (2, True), result.err


def test_a_chat_model_does_not_go_through_ct2(llama: str, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    engine = EngineSpec("ct2", model=llama)
    with pytest.raises(UserError, match=r"has no encoder that reads sentences \(a chat model needs --engine hf\)"):
        engine.open("en", "es", tmp_path)


def test_models_that_do_not_chat(tmp_path: Path) -> None:
    plain = chat_model(tmp_path / "plain", template="")
    with pytest.raises(UserError, match="has no chat template, and is no translation model"):
        open_engine(plain, "", "en", "es")
    strict = chat_model(tmp_path / "strict", template="{{ raise_exception('give the codes of both languages') }}")
    with pytest.raises(UserError, match="its chat template takes no plain prompt: give the codes of both languages"):
        open_engine(strict, "", "en", "es").translate(["a cat"])
