"""Encoders: any Hugging Face encoder, loaded whole or not at all, with hidden states of any layer."""

# Shape suffixes: T = real tokens of the batch, B = sequences, L = longest sequence, H = hidden size

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import pad

from xstilts import device, packing
from xstilts.batching import Batch, Masking
from xstilts.data.find import digest
from xstilts.errors import UserError, nearest
from xstilts.features import TokenizerPieces

PROBE_TOLERANCE = 1e-4
ROUND = 64
"""Tokens of a packed row on a CPU are filled up to a multiple of this, for oneDNN compiles kernels for each number."""


class Encoder(nn.Module):
    """A transformers encoder with its tokenizer and, if its checkpoint has one, its language-model head.

    Attributes:
        base: the transformers model, without a pooler.
        vocabulary: the language-model head as a module from [M, H] to [M, V], or None.
        packs: whether batches go through without padding; found out by a probe, never by name.
        notes: what the checkpoint had that is not used.
    """

    def __init__(self, base: Any, tokenizer: Any, *, lm: Any = None, notes: str = "", name: str = "") -> None:
        super().__init__()
        self.base, self.tokenizer, self.notes = base, tokenizer, notes
        self.vocabulary = _LanguageModelHead(lm) if lm is not None else None
        self.config = base.config
        device.hasten(base)
        accepts = inspect.signature(base.forward).parameters
        self._types = "token_type_ids" in accepts and getattr(base.config, "type_vocab_size", 1) > 1
        self._offset = 0
        self.packs = False
        alone = self._probe(name)
        self.packs = "position_ids" in accepts and self._can_pack(alone)

    @property
    def layers(self) -> int:
        """Number of transformer blocks."""
        return int(self.config.num_hidden_layers)

    @property
    def pooled_layer(self) -> int:
        """Where retrieval pools by default: the equivalent of hidden state 14 of 24."""
        return int(14 * self.layers / 24 + 0.5)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def hidden(self, batch: Batch, layer: int | None = None) -> Tensor:
        """Hidden states [T, H] of the real tokens, of the last layer or of hidden state `layer` (0: embeddings).

        The forward pass stops at `layer`.
        """
        if self.packs:
            more = -batch.tokens % ROUND if batch.ids_T.device.type == "cpu" else 0  # a sequence that nobody looks at
            layout = packing.Layout.alike(pad(batch.lengths_B, (0, 1), value=more) if more else batch.lengths_B)
            ids_T, at_T = pad(batch.ids_T, (0, more), value=self._filler), pad(layout.at_T[: batch.tokens], (0, more))
            inputs = {"input_ids": ids_T[None], "position_ids": at_T[None] + self._offset}
            if self._types:
                inputs["token_type_ids"] = pad(batch.types_T, (0, more))[None]
            with packing.packed(layout):
                return self._run(layer, inputs)[0, : batch.tokens]
        layout = packing.Layout.of(batch.lengths_B)
        ids_BL = packing.pad(batch.ids_T, layout).masked_fill(~layout.real_BL, self._filler)
        inputs = {"input_ids": ids_BL, "attention_mask": layout.real_BL.long()}
        if self._types:
            inputs["token_type_ids"] = packing.pad(batch.types_T, layout)
        return packing.unpad(self._run(layer, inputs), layout)

    @property
    def _filler(self) -> int:
        return self.tokenizer.pad_token_id or 0

    def _run(self, layer: int | None, inputs: dict[str, Tensor]) -> Tensor:
        if layer is None or layer == self.layers:
            return torch.as_tensor(self.base(**inputs).last_hidden_state)
        hook = self._blocks()[layer].register_forward_pre_hook(_stop, with_kwargs=True)
        try:
            self.base(**inputs)
        except _Reached as reached:
            return reached.hidden
        finally:
            hook.remove()
        raise AssertionError("the forward pass went by the layer")

    def _blocks(self) -> nn.ModuleList:
        lists = (module for module in self.base.modules() if isinstance(module, nn.ModuleList))
        return next(blocks for blocks in lists if len(blocks) == self.layers)

    def _probe_ids(self) -> Tensor:
        return torch.arange(11).remainder(max(int(self.config.vocab_size) - 6, 1)) + 5

    def _probe(self, name: str) -> Tensor:
        """Hidden states of two short sequences, one at a time.

        Raises:
            UserError: the model does not turn text into hidden states, or its tokens do not see those after them.
        """
        if self.base.config._attn_implementation == packing.NAME:  # shared with an encoder that was here before
            self.base.set_attn_implementation("sdpa")
        was_training = self.base.training
        self.base.eval()
        try:
            ids_T = self._probe_ids()
            first, second = ids_T[:7], ids_T[7:]
            other = torch.cat([first[:-1], first[-1:] - 1])
            with torch.inference_mode():
                states = [self.base(input_ids=ids[None]).last_hidden_state[0] for ids in (first, second, other)]
            causal = self.layers > 0 and states[0][0].equal(states[2][0])
        except Exception as error:  # whatever a model of another kind raises
            said = str(error).strip().split("\n")[0]
            raise UserError(f"cannot be run on text: {type(error).__name__}: {said}", where=name) from error
        if causal:
            hint = "an encoder is needed, not a decoder that continues text"
            raise UserError("attends to the left only", where=name, hint=hint)
        self.base.train(was_training)
        return torch.cat(states[:2])

    def _can_pack(self, alone: Tensor) -> bool:
        """Whether packed output equals the output of one sequence at a time; sets the offset of positions."""
        usual = self.base.config._attn_implementation
        ids_T, none = self._probe_ids(), torch.zeros(0, dtype=torch.long)
        zeros_T, zeros_B = torch.zeros_like(ids_T), torch.zeros(2)
        batch = Batch(2, ids_T, torch.tensor([7, 4]), zeros_T, none, none, zeros_B, torch.arange(2))
        was_training = self.base.training
        self.base.eval()
        with torch.inference_mode():
            try:
                packing.register()
                self.base.set_attn_implementation(packing.NAME)
                self.packs = True
                for offset in (0, (getattr(self.config, "pad_token_id", None) or 0) + 1):
                    self._offset = offset
                    if (self.hidden(batch) - alone).abs().max() < PROBE_TOLERANCE:
                        self.base.train(was_training)
                        return True
            except (ValueError, TypeError, RuntimeError, IndexError, AssertionError):
                pass  # a model that does not go through the attention interface says so in one of these ways
        self.base.set_attn_implementation(usual)
        self.base.train(was_training)
        return False

    def pieces(self, max_length: int) -> TokenizerPieces:
        """The tokenizer at a maximum length, which never exceeds what the encoder has positions for."""
        unknown = self.tokenizer.unk_token_id
        return TokenizerPieces(
            self.tokenizer.backend_tokenizer,
            max_length=min(max_length, self.max_length),
            unk_id=self.tokenizer.eos_token_id if unknown is None else unknown,
        )

    @property
    def max_length(self) -> int:
        """Tokens that a sequence can have at most."""
        positions = int(getattr(self.config, "max_position_embeddings", 0) or 0)
        return positions - self._reserved() if positions > 0 else int(1e6)

    def _reserved(self) -> int:
        table = next((m for n, m in self.base.named_modules() if n.endswith("position_embeddings")), None)
        padding = getattr(table, "padding_idx", None)
        return 0 if padding is None else int(padding) + 1

    def masking(self) -> Masking:
        """What hiding pieces needs to know of the tokenizer."""
        special = tuple(sorted(self.tokenizer.all_special_ids))
        return Masking(self.tokenizer.mask_token_id, len(self.tokenizer), special)

    def tokenizer_digest(self) -> str:
        """A hash of all that decides how text becomes ids."""
        return hashlib.sha256(self.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write a normal Hugging Face folder, the language-model head included if there is one."""
        if self.vocabulary is None:
            self.base.save_pretrained(folder)
        else:
            self.vocabulary.save(self.base, folder)
        try:
            self.tokenizer.save_pretrained(folder)
        except Exception as error:  # the tokenizers library has nothing narrower for a file that cannot be written
            raise OSError(str(error)) from error


class _Reached(Exception):
    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


def _stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
    raise _Reached(args[0] if args else kwargs["hidden_states"])


class _LanguageModelHead(nn.Module):
    """A masked language model without its encoder: the model's own code, handed hidden states by a stand-in.

    Every family names and shapes its head otherwise; this way none needs a line of its own.
    """

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self._prefix = lm.base_model_prefix
        self._handed = _Handed()
        setattr(lm, self._prefix, self._handed)
        self.lm = lm

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """[M, V] scores."""
        self._handed.hidden = hidden_MH[None]
        ids = torch.zeros(hidden_MH.shape[:1], dtype=torch.long, device=hidden_MH.device)[None]
        scores_MV: Tensor = self.lm(input_ids=ids).logits[0]
        return scores_MV

    def save(self, base: nn.Module, folder: Path) -> None:
        setattr(self.lm, self._prefix, base)
        try:
            self.lm.save_pretrained(folder)
        finally:
            setattr(self.lm, self._prefix, self._handed)


class _Handed(nn.Module):
    hidden: Tensor

    def forward(self, *_: Any, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=self.hidden)


def quiet() -> None:
    """Keep transformers from writing bars and reports; what matters of them is said by `load` itself."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def load(name: str, *, remote_code: bool = False) -> Encoder:
    """Load an encoder from a folder or from the Hub (`id` or `id@revision`), weights as float32.

    Every weight that the encoder needs must be in the checkpoint. No pickle is read; no code of the checkpoint's own is
    run unless `remote_code`.

    Raises:
        UserError: no such folder, no safetensors weights, weights that are missing, truncated or of another model.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer

    quiet()
    place, _, revision = (name, "", "") if Path(name).exists() else name.partition("@")
    common: dict[str, Any] = {"trust_remote_code": remote_code} | ({"revision": revision} if revision else {})
    weights = common | {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
    weights["ignore_mismatched_sizes"] = True  # not ignored at all, but told apart below
    check(name)
    try:
        config = AutoConfig.from_pretrained(place, **common)
        tokenizer = AutoTokenizer.from_pretrained(place, **common)
        if type(config) in AutoModelForMaskedLM._model_mapping:
            lm, info = AutoModelForMaskedLM.from_pretrained(place, config=config, **weights)
            prefix = lm.base_model_prefix + "."
            missing = [key for key in info["missing_keys"] if not key.startswith(prefix)]
            _whole(name, [key for key in info["missing_keys"] if key.startswith(prefix)], info["mismatched_keys"])
            base, lm = getattr(lm, lm.base_model_prefix), None if missing else lm
        else:
            base, info = AutoModel.from_pretrained(place, config=config, **weights)
            lm = None
            missing = [key for key in info["missing_keys"] if not key.startswith("pooler.")]
            _whole(name, missing, info["mismatched_keys"])
    except SafetensorError as error:
        raise UserError(f"the weights cannot be read: {error}", where=name, hint="copy them anew") from error
    except UserError:
        raise
    except Exception as error:  # transformers and tokenizers raise all kinds for a broken file
        first = str(error).strip().split("\n")[0] or type(error).__name__
        hint = "are its config.json, tokenizer.json and tokenizer_config.json whole?"
        if not Path(name).exists():
            hint = "not a folder here; without the Hub, give a folder"
        raise UserError(f"cannot be loaded as an encoder: {first}", where=name, hint=hint) from error
    if getattr(base, "pooler", None) is not None:
        base.pooler = None
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise UserError("has no fast tokenizer (tokenizer.json)", where=name)
    unused = sorted(info["unexpected_keys"])
    notes = f"not used: {', '.join(unused)}" if unused else ""
    made = Encoder(base, tokenizer, lm=lm, notes=notes, name=name)
    _fits(name, made)
    return made


def _fits(name: str, made: Encoder) -> None:
    """Refuse a tokenizer that cannot be used, or that is of another encoder with more pieces."""
    try:
        made.pieces(8)
        highest = max(made.tokenizer.get_vocab().values())
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise UserError(f"the tokenizer cannot be used: {error}", where=name) from error
    if highest >= made.config.vocab_size:
        raise UserError(
            f"the tokenizer has the id {highest}, the encoder only {made.config.vocab_size} pieces",
            where=name,
            hint="is this the tokenizer of another model?",
        )


def files(name: str) -> dict[str, str]:
    """The files of an encoder that is a folder, with their sha256."""
    folder = Path(name)
    if not folder.is_dir():
        return {}
    return {str(path): digest(path) for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors")}


def _whole(name: str, missing: Sequence[str], mismatched: Iterable[tuple[str, Any, Any]]) -> None:
    """Refuse a checkpoint without all the weights that its config.json tells of."""
    hint = "are these the weights of another model than config.json tells of?"
    if missing:
        some = ", ".join(sorted(missing)[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        count = "a weight" if len(missing) == 1 else f"{len(missing)} weights"
        raise UserError(f"the checkpoint lacks {count} that the encoder needs: {some}", where=name, hint=hint)
    for key, there, needed in sorted(mismatched, key=lambda row: row[0]):
        raise UserError(f"the shape of {key} is {list(there)}, config.json needs {list(needed)}", where=name, hint=hint)


def check(name: str) -> None:
    """See at once, without loading weights, whether a local folder can be an encoder.

    Raises:
        UserError: a path that is no folder, or a folder without config.json, safetensors weights or a tokenizer.
    """
    folder = Path(name)
    if not folder.exists():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            beside = folder.parent
            names = [entry.name for entry in beside.iterdir()] if beside.is_dir() else []
            hint = nearest(folder.name, names) if names else f"relative to {Path.cwd()}" if name[0] == "." else ""
            raise UserError("no such folder", where=name, hint=hint)
        return
    if not folder.is_dir():
        raise UserError("is a file; an encoder is a folder with config.json", where=name)
    if not (folder / "config.json").is_file():
        raise UserError("has no config.json; is this a Hugging Face folder?", where=name)
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"is not JSON: {error}", where=str(folder / "config.json")) from error
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin"))
        raise UserError(
            "has only pickled weights (.bin), which are never read" if pickled else "has no weights (*.safetensors)",
            where=name,
            hint="save the model again with transformers: save_pretrained writes safetensors" if pickled else "",
        )
    if not (folder / "tokenizer.json").is_file():
        raise UserError("has no tokenizer.json", where=name, hint="save its fast tokenizer beside the weights")
