"""Encoders: any Hugging Face encoder, loaded whole or not at all, with hidden states of any layer."""

# Shape suffixes: T = real tokens of the batch, B = sequences, L = longest sequence, H = hidden size

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import pad

from xstilts.compute import device, memory
from xstilts.compute.private import attention_name, has_model
from xstilts.errors import OutOfMemory, UserError, first_line
from xstilts.languages import ENGLISH, base
from xstilts.model import encoder_folder, packing, pretrained_tokenizer, probe
from xstilts.model.batch import Batch, Masking
from xstilts.model.compiled import CompiledForward, bucket
from xstilts.model.lm_head import LanguageModelHead
from xstilts.model.tokenizer import Tokenizer
from xstilts.utils.models import Precision

SHORTEST = 8
"""The fewest tokens that an encoder must have positions for; no task has a shorter maximum length."""
ROUND = 64
"""On a CPU packed rows are padded to a multiple of this, because oneDNN compiles kernels for each length."""

T = TypeVar("T")


class Encoder(nn.Module):
    """A transformers encoder with its tokenizer and, if its checkpoint has one, its language-model head.

    Attributes:
        base: the transformers model, without a pooler.
        vocabulary: the language-model head as a module from [M, H] to [M, V], or None.
        packs: whether the model takes batches without padding; a probe decides this, not the model's name.
        position_offset: the position of the first token of a sequence.
        padded_attention: transformers' name of the attention function for padded batches.
        has_token_types: whether the model reads which text of a pair each token belongs to.
        languages: language ids by code, for models that take them as input; empty for most models. A language
            without an id counts as English, as in XTREME's scripts.
        unused_weights: a line on the weights of the checkpoint that are not used; empty if all are.
    """

    def __init__(self, base: Any, tokenizer: Any, *, lm: Any = None, unused_weights: str = "", name: str = "") -> None:
        super().__init__()
        self.base, self.tokenizer, self.unused_weights = base, tokenizer, unused_weights
        self.vocabulary = LanguageModelHead(lm) if lm is not None else None
        self.config = base.config
        device.use_fast_layers(base)
        accepts = inspect.signature(base.forward).parameters
        self.has_token_types = "token_type_ids" in accepts and getattr(base.config, "type_vocab_size", 1) > 1
        self.languages = encoder_folder.language_ids(base.config, name) if "langs" in accepts else {}
        self.position_offset, self.padded_attention = 0, attention_name(base.config)
        self._packs_in: dict[tuple[torch.device, str], bool] = {}
        self._compiled: CompiledForward | None = None
        if attention_name(base.config) == packing.NAME:  # an earlier encoder with the same config
            base.set_attn_implementation("sdpa")
        was_training = base.training
        base.eval()
        with torch.inference_mode():
            self._stops = self._probe(name)
            self.packs = "position_ids" in accepts and probe.can_pack(self)
        base.train(was_training)

    def check_packing(self, precision: Precision) -> str:
        """Try packing on the accelerator in a precision, once; returns a note where batches are padded from now on."""
        key = self.device, device.effective_precision(self.device, precision)
        if not self.packs or self.device.type == "cpu" or key in self._packs_in:
            return ""
        self.packs = self._packs_in[key] = probe.packs_on_device(self, precision)
        if self.packs:
            return ""
        self.base.set_attn_implementation(self.padded_attention)
        return f"batches are padded, because packed ones give other numbers on this device in {key[1]}"

    @property
    def layers(self) -> int:
        """Number of transformer blocks."""
        return int(self.config.num_hidden_layers)

    @property
    def retrieval_layer(self) -> int:
        """The hidden state that retrieval reads by default: the equivalent of 14 of 24."""
        return int(14 * self.layers / 24 + 0.5)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def hidden(self, batch: Batch, layer: int | None = None) -> Tensor:
        """Hidden states [T, H] of the real tokens, of the last layer or of hidden state `layer` (0: embeddings).

        The forward pass stops at `layer` if the model allows it.
        """
        last = self.layers if layer is None else layer
        return self.hidden_states(batch, (last,), _itself)[last]

    def hidden_states(self, batch: Batch, layers: Collection[int], read: Callable[[Tensor], T]) -> dict[int, T]:
        """What `read` makes of the hidden state [T, H] of each layer (0: embeddings), in one forward pass.

        Each state is read as soon as it is there, so that they need not be in memory together. The forward pass stops
        at the last of `layers` if the model allows it.
        """
        if self.packs:
            padded, layout = self._padded(batch)
            return self.packed_states(padded, layout, layers, lambda hidden_TH: read(hidden_TH[: batch.tokens]))
        layout = batch.grid()
        ids_BL = packing.pad(batch.ids_T, layout).masked_fill(~layout.real_BL, self.pad_id)
        inputs = self._inputs(ids_BL, packing.pad(batch.types_T, layout), batch.language)
        inputs["attention_mask"] = layout.real_BL.long()
        return self._run(layers, inputs, lambda hidden_BLH: read(packing.unpad(hidden_BLH, layout)))

    def _padded(self, batch: Batch) -> tuple[Batch, packing.Layout]:
        """A batch with tokens after its own where they make it faster, and the layout of its row."""
        if self._compiled_in_training:
            more = bucket(batch.tokens) - batch.tokens
            ids_T, types_T = pad(batch.ids_T, (0, more), value=self.pad_id), pad(batch.types_T, (0, more))
            return replace(batch, ids_T=ids_T, types_T=types_T), batch.grid().with_padding(more)
        if batch.ids_T.device.type != "cpu":
            return batch, batch.grid()
        padded = batch.pad_to_multiple_of(ROUND, self.pad_id)
        return padded, packing.Layout.by_length(padded.lengths_B)

    def packed_states(
        self, batch: Batch, layout: packing.Layout, layers: Collection[int], read: Callable[[Tensor], T]
    ) -> dict[int, T]:
        """As `hidden_states`, for a model that packs; `read` gets the padding, too."""
        inputs = self._inputs(batch.ids_T[None], batch.types_T[None], batch.language)
        at_T = layout.at_T.clamp(max=self.max_length - 1)  # the padding may be longer
        inputs["position_ids"] = at_T[None] + self.position_offset
        with packing.packed(layout):
            return self._run(layers, inputs, lambda hidden_1TH: read(hidden_1TH[0]))

    def _inputs(self, ids: Tensor, types: Tensor, language: str) -> dict[str, Tensor]:
        """The model's inputs for each token, all of one shape."""
        inputs = {"input_ids": ids}
        if self.has_token_types:
            inputs["token_type_ids"] = types
        if self.languages:
            known = next((code for code in (language, base(language)) if code in self.languages), ENGLISH)
            inputs["langs"] = torch.full_like(ids, self.languages[known])
        return inputs

    @property
    def pad_id(self) -> int:
        """The id of padding, which no score depends on."""
        return self.tokenizer.pad_token_id or 0

    def _run(self, layers: Collection[int], inputs: dict[str, Tensor], read: Callable[[Tensor], T]) -> dict[int, T]:
        inner, found = sorted({*layers} - {self.layers}), dict[int, T]()
        if inner and not self._stops:
            output = self.base(**inputs, output_hidden_states=True)
            states = {layer: output.hidden_states[layer] for layer in inner} | {self.layers: output.last_hidden_state}
            return {layer: read(states[layer]) for layer in layers}

        def visit(layer: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found[layer] = read(args[0] if args else kwargs["hidden_states"])
            if layer == max(layers):
                raise _LayerReached

        blocks = self._blocks() if inner else ()
        hooks = [blocks[x].register_forward_pre_hook(partial(visit, x), with_kwargs=True) for x in inner]
        try:
            output = self._call(inputs)
        except _LayerReached:
            return found
        finally:
            for hook in hooks:
                hook.remove()
        assert self.layers in layers and len(found) == len(inner), "the forward pass did not reach a layer"
        return found | {self.layers: read(output.last_hidden_state)}

    def _call(self, inputs: dict[str, Tensor]) -> Any:
        """The model's output."""
        return (self._compiled_in_training or self.base)(**inputs)

    @property
    def _compiled_in_training(self) -> CompiledForward | None:
        """The compiled forward pass; evaluations have none, because they are too short."""
        return self._compiled if self.training else None

    def compile(self, failed: Callable[[str], None]) -> None:
        """Let torch compile the forward pass of trainings; `failed` is called with the reason if it gives up."""
        self._compiled = CompiledForward(self.base.forward, failed)

    @property
    def is_compiled(self) -> bool:
        """Whether trainings have a compiled forward pass."""
        return self._compiled is not None

    def uncompile(self, error: Exception) -> bool:
        """Compile less after an error; whether there was something compiled, so that the same work may succeed."""
        if self._compiled is None:
            return False
        if not self._compiled.retry(error):
            self._compiled = None
        return True

    def _blocks(self) -> nn.ModuleList:
        lists = (module for module in self.base.modules() if isinstance(module, nn.ModuleList))
        return next(blocks for blocks in lists if len(blocks) == self.layers)

    def _can_stop(self, ids: Tensor) -> bool:
        """Whether the input of block k is hidden state k of transformers."""
        states = self.base(input_ids=ids[None], output_hidden_states=True).hidden_states
        self._stops = True
        try:
            return all([self._run((k,), {"input_ids": ids[None]}, states[k].equal)[k] for k in {0, self.layers // 2}])
        except (StopIteration, KeyError, IndexError, AttributeError, AssertionError):
            return False  # no list of blocks, or other arguments

    def _probe(self, name: str) -> bool:
        """Run the model on a short sequence; whether its forward pass can stop at a layer.

        Raises:
            UserError: the model gives no hidden states for text, or some are not finite, or its attention is causal.
        """
        try:
            ids_T = probe.probe_batch((7,), self.config.vocab_size).ids_T
            other_T = torch.cat([ids_T[:-1], ids_T[-1:] - 1])
            states = [self.base(input_ids=ids[None]).last_hidden_state[0] for ids in (ids_T, other_T)]
            causal, stops = self.layers > 0 and states[0][0].equal(states[1][0]), self._can_stop(ids_T)
        except Exception as error:  # whatever a model of another kind raises
            if memory.is_out_of_memory(error):
                raise
            first = str(error).strip().split("\n")[0]
            hint = "name a `pad_token` in tokenizer_config.json" if self.config.pad_token_id is None else ""
            raise UserError(f"cannot be run on text: {type(error).__name__}: {first}", where=name, hint=hint) from error
        if not all(state.isfinite().all() for state in states):
            raise UserError("the weights are broken (not numbers)", where=name, hint="copy them anew")
        if causal:
            hint = "an encoder is needed, not a decoder that continues text"
            raise UserError("attends to the left only", where=name, hint=hint)
        return stops

    def tokenizer_for(self, max_length: int) -> Tokenizer:
        """The tokenizer at a maximum length, limited to the encoder's positions."""
        unknown = self.tokenizer.unk_token_id
        return Tokenizer(
            self.tokenizer.backend_tokenizer,
            max_length=min(max_length, self.max_length),
            unk_id=self.tokenizer.eos_token_id if unknown is None else unknown,
        )

    @property
    def max_length(self) -> int:
        """The most tokens that a sequence can have."""
        positions = int(getattr(self.config, "max_position_embeddings", 0) or 0)
        return positions - self.reserved_positions if positions > 0 else int(1e6)

    @property
    def reserved_positions(self) -> int:
        """The first rows of the position table, which no token has."""
        table = next((m for n, m in self.base.named_modules() if n.endswith("position_embeddings")), None)
        padding = getattr(table, "padding_idx", None)
        return 0 if padding is None else int(padding) + 1

    def masking(self) -> Masking:
        """The tokenizer's ids that masking needs."""
        special = tuple(sorted(self.tokenizer.all_special_ids))
        return Masking(self.tokenizer.mask_token_id, len(self.tokenizer), special)

    def tokenizer_digest(self) -> str:
        """A hash of the tokenizer's content."""
        return hashlib.sha256(self.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write a Hugging Face folder, with the language-model head if there is one."""
        if self.vocabulary is None:
            self.base.save_pretrained(folder)
        else:
            self.vocabulary.save(self.base, folder)
        pretrained_tokenizer.save(self.tokenizer, folder)


class _LayerReached(Exception):
    """The forward pass need not go on."""


def _itself(hidden: Tensor) -> Tensor:
    return hidden


def quiet() -> None:
    """Turn off the progress bars and reports of transformers; `load` itself reports what matters."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def load(name: str, *, remote_code: bool = False) -> Encoder:
    """Load an encoder from a folder or from the Hub (`id` or `id@revision`), weights as float32.

    The checkpoint must have every weight that the encoder needs. Pickles are never read; the checkpoint's own code
    runs only with `remote_code`.

    Raises:
        UserError: no such folder, no safetensors weights, weights that are missing, truncated or of another model.
        OutOfMemory: it does not fit into memory.
    """
    encoder = memory.attempt(partial(_load, name, remote_code=remote_code), torch.device("cpu"))
    if encoder is None:
        raise OutOfMemory("memory is full", where=name, hint=memory.GO_ON)
    return encoder


def _load(name: str, *, remote_code: bool) -> Encoder:
    from huggingface_hub import constants
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForTextEncoding

    quiet()
    place, _, revision = (name, "", "") if Path(name).exists() else name.partition("@")
    common: dict[str, Any] = {"trust_remote_code": remote_code} | ({"revision": revision} if revision else {})
    weights = common | {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
    weights["ignore_mismatched_sizes"] = True  # `check_whole` reports them below
    encoder_folder.check(name)
    try:
        config = AutoConfig.from_pretrained(place, **common)
        encoder_folder.check_quantization(name, getattr(config, "quantization_config", None))
        tokenizer = pretrained_tokenizer.load(place, config=config, revision=revision, remote_code=remote_code)
        if getattr(config, "pad_token_id", None) is None:  # positions may count from it
            config.pad_token_id = getattr(tokenizer, "pad_token_id", None)
        if has_model(AutoModelForMaskedLM, config):
            lm, info = AutoModelForMaskedLM.from_pretrained(place, config=config, **weights)
            prefix = lm.base_model_prefix + "."
            missing = [key for key in info["missing_keys"] if not key.startswith(prefix)]
            needed = {*info["missing_keys"]} - {*missing}
            base, lm = getattr(lm, lm.base_model_prefix), None if missing else lm
        else:
            # only the encoder of an encoder-decoder such as mT5
            auto = AutoModelForTextEncoding if has_model(AutoModelForTextEncoding, config) else AutoModel
            base, info = auto.from_pretrained(place, config=config, **weights)
            lm, prefix, needed = None, base.base_model_prefix + ".", {*info["missing_keys"]}
        pooler = ("pooler.", f"{prefix}pooler.")
        encoder_folder.check_whole(name, [key for key in needed if not key.startswith(pooler)], info["mismatched_keys"])
        encoder_folder.check_extra(name, (part for part, _ in base.named_children()), prefix, info["unexpected_keys"])
        encoder_folder.check_types(name, (key for key, _ in base.named_parameters()))
    except SafetensorError as error:
        raise UserError(f"the weights cannot be read: {error}", where=name, hint="copy them anew") from error
    except Exception as error:  # transformers and tokenizers raise all kinds for a broken file
        if isinstance(error, UserError) or memory.is_out_of_memory(error):
            raise
        if "`use_safetensors" in str(error):  # not on the Hub; offline, not in its cache
            cached = encoder_folder.local_folder(name)
            pickled = not constants.HF_HUB_OFFLINE or (cached is not None and any(cached.glob("*.bin")))
            raise encoder_folder.without_safetensors(name, pickled=pickled) from error
        hint = "are its config.json, tokenizer.json and tokenizer_config.json whole?"
        if not Path(name).exists():
            hint = "not a folder here; without the Hub, give a folder"
        raise UserError(f"cannot be loaded as an encoder: {first_line(error)}", where=name, hint=hint) from error
    if getattr(base, "pooler", None) is not None:
        base.pooler = None
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise UserError("has no fast tokenizer (tokenizer.json)", where=name)
    unused = encoder_folder.unused_weights(info["unexpected_keys"])
    encoder = Encoder(base, tokenizer, lm=lm, unused_weights=unused, name=name)
    _check_tokenizer(name, encoder)
    return encoder


def _check_tokenizer(name: str, encoder: Encoder) -> None:
    """Refuse too few positions, and a tokenizer that does not work or has more pieces than the encoder."""
    if encoder.max_length < SHORTEST:
        raise UserError(f"takes no more than {encoder.max_length} tokens", where=name, hint=f"{SHORTEST} are needed")
    try:
        around = encoder.tokenizer_for(SHORTEST).single([])[0]
        highest = max(encoder.tokenizer.get_vocab().values())
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise UserError(f"the tokenizer cannot be used: {error}", where=name) from error
    if not around:
        raise UserError("the tokenizer puts no special token around a text", where=name,
                        hint="its tokenizer.json needs a post_processor that does")  # fmt: skip
    if highest >= encoder.config.vocab_size:
        raise UserError(
            f"the tokenizer has the id {highest}, the encoder only {encoder.config.vocab_size} pieces",
            where=name,
            hint="is this the tokenizer of another model?",
        )


def for_inference(encoder: Encoder) -> Encoder:
    """An encoder on the device, in evaluation mode."""
    encoder.to(device.device()).eval()
    device.use_fast_cuda(encoder.device)
    device.set_num_threads(encoder.config.hidden_size)
    return encoder
