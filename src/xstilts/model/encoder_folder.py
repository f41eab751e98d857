"""Checks the folder of an encoder: its files, and the names, shapes and types of its weights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from xstilts.errors import UserError, listed, nearest
from xstilts.languages import ENGLISH
from xstilts.utils.files import digest, missing_parts, read_json, reject_lfs_pointer

BUFFERS = frozenset({"position_ids", "token_type_ids", "inv_freq"})
"""Names in a checkpoint that are buffers, not weights."""
QUANTIZED = "quantised weights cannot be trained: give the encoder before quantisation"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""Files that may hold a tokenizer's content."""


def check(name: str) -> None:
    """Check that a local folder can be an encoder, without loading weights.

    Raises:
        UserError: the path is not a folder, the folder lacks config.json, a tokenizer or (a part of) the safetensors
            weights, one of them is a Git LFS pointer, or the weights are an adapter's or quantised.
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
    if (folder / "adapter_config.json").is_file() and not any(folder.glob("model*.safetensors*")):
        hint = "merge it into its encoder and save that: `merge_and_unload()`, then `save_pretrained(FOLDER)`"
        raise UserError("is an adapter (PEFT), not a whole encoder", where=name, hint=hint)
    if not (folder / "config.json").is_file():
        inner = sorted(path.parent.name for path in folder.glob("*/config.json") if path.parent.name != "1_Pooling")
        what = "is a folder of sentence-transformers, without" if (folder / "modules.json").is_file() else "has no"
        hint = f"give {folder / inner[0]}" if inner else "is this a Hugging Face folder?"
        raise UserError(f"{what} config.json", where=name, hint=hint)
    for file in ("config.json", "tokenizer.json"):
        if (folder / file).is_file():
            reject_lfs_pointer(folder / file)
    try:
        config = read_json(folder / "config.json")
    except ValueError as error:
        raise UserError(f"is not JSON: {error}", where=str(folder / "config.json")) from error
    check_quantization(name, config.get("quantization_config") if isinstance(config, dict) else None)
    _check_weights(folder)
    if not (folder / "tokenizer.json").is_file():
        raise UserError("has no tokenizer.json", where=name, hint="save its fast tokenizer beside the weights")


def _check_weights(folder: Path) -> None:
    weights, name = sorted(folder.glob("*.safetensors")), str(folder)
    for path in weights:
        reject_lfs_pointer(path)
    if missing := missing_parts(weights):
        raise UserError(f"lacks weights ({missing})", where=name)
    if not weights:
        raise without_safetensors(name, pickled=any(folder.glob("*.bin")))
    index = folder / "model.safetensors.index.json"
    if not (folder / "model.safetensors").is_file() and not index.is_file():
        parts, names = any("-of-" in path.name for path in weights), listed([path.name for path in weights], 3)
        hint = f"copy {index.name}, too" if parts else "rename the file if it is the whole encoder"
        raise UserError(f"has {names}, but no {index.name if parts else 'model.safetensors'}", where=name, hint=hint)
    if not (folder / "model.safetensors").is_file():
        _check_index(folder, index)


def _check_index(folder: Path, index: Path) -> None:
    """Check that the index of weights in several files can be read, and that the files it names are there."""
    reject_lfs_pointer(index)
    try:
        named = {str(file) for file in read_json(index)["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError("does not say which file has which weights", where=str(index), hint="copy it anew") from error
    if absent := sorted(file for file in named if not (folder / file).is_file()):
        raise UserError(f"lacks weights that {index.name} names ({listed(absent, 3)})", where=str(folder))


def without_safetensors(name: str, *, pickled: bool) -> UserError:
    """The error for an encoder without safetensors weights, in a folder or on the Hub."""
    if not pickled:
        return UserError("has no weights (*.safetensors)", where=name)
    hint = "save the model again with transformers: save_pretrained writes safetensors"
    return UserError("has only pickled weights (.bin), which are never read", where=name, hint=hint)


def check_quantization(name: str, settings: object) -> None:
    """Refuse an encoder whose config.json has these settings of its quantised weights."""
    if settings:
        method = settings.get("quant_method", "") if isinstance(settings, dict) else ""
        what = f"has quantised weights ({method or 'quantization_config'})"
        raise UserError(what, where=name, hint=QUANTIZED)


def check_whole(name: str, missing: Sequence[str], mismatched: Iterable[tuple[str, Any, Any]]) -> None:
    """Refuse a checkpoint that lacks weights of the model in its config.json."""
    hint = "are these the weights of another model than config.json describes?"
    if missing:
        raise UserError(
            f"the checkpoint lacks {_counted(missing)} that the encoder needs: {listed(sorted(missing), 3)}",
            where=name,
            hint=hint,
        )
    for key, found, needed in sorted(mismatched, key=lambda row: row[0]):
        raise UserError(f"the shape of {key} is {list(found)}, config.json needs {list(needed)}", where=name, hint=hint)


def check_extra(name: str, parts: Iterable[str], prefix: str, unexpected: Iterable[str]) -> None:
    """Refuse a checkpoint that has more weights of the encoder than its config.json, such as more layers.

    Args:
        name: the encoder.
        parts: names of the loaded model's modules.
        prefix: may stand before these names in the checkpoint.
        unexpected: the checkpoint's weights that the model lacks.
    """
    known = {*parts} - {"pooler", "decoder"}
    own = [key for key in unexpected if {key.partition(".")[0], key.removeprefix(prefix).partition(".")[0]} & known]
    left = sorted(key for key in own if key.rpartition(".")[2] not in BUFFERS)
    if left:
        raise UserError(f"config.json leaves out {_counted(left)} of the encoder: {listed(left, 3)}", where=name,
                        hint="does it describe fewer layers than the checkpoint has?")  # fmt: skip


def check_types(name: str, weights: Iterable[str]) -> None:
    """Refuse weights stored as integers, which transformers would load as if they were floats.

    Args:
        name: a folder, or a downloaded encoder of the Hub.
        weights: their names in the model; in a file a prefix may stand before them.

    Raises:
        UserError: a weight is stored as integers.
    """
    known, folder = set(weights), local_folder(name)
    for path in sorted(folder.glob("*.safetensors")) if folder else ():
        types: dict[str, str] = {}
        with suppress(ValueError, AttributeError, KeyError, TypeError):  # not a file of the encoder
            types = {key: str(tensor["dtype"]) for key, tensor in header(path).items()}
        for key, kind in types.items():
            if kind.startswith(("I", "U")) and (key in known or key.partition(".")[2] in known):
                raise UserError(f"{key} is stored as integers ({kind})", where=str(path), hint=QUANTIZED)


def language_ids(config: Any, name: str) -> dict[str, int]:
    """The ids of the languages that an XLM has embeddings for; if English has none, it gets the default id.

    Raises:
        UserError: an id is not the number of an embedding.
    """
    if not getattr(config, "use_lang_emb", True) or getattr(config, "n_langs", 1) < 2:
        return {}
    named = getattr(config, "lang2id", {})
    ids = {ENGLISH: config.lang_id} | named if isinstance(named, dict) else {}
    if not ids or not all(type(id) is int and 0 <= id < config.n_langs for id in ids.values()):
        what = f"config.json needs lang_id, and lang2id with languages and ids, below n_langs ({config.n_langs})"
        raise UserError(what, where=name)
    return {str(code): id for code, id in ids.items()}


def unused_weights(keys: Iterable[str]) -> str:
    """A line on the weights that the encoder does not use; those of a large module are counted."""
    rest = sorted(keys)
    counts = Counter(key.partition(".")[0] for key in rest)
    many = {part: count for part, count in counts.items() if count > 3}
    parts = [f"{part} ({count} weights)" for part, count in many.items()]
    parts += [key for key in rest if key.partition(".")[0] not in many]
    return f"not used: {', '.join(parts)}" if parts else ""


def _counted(weights: Sequence[str]) -> str:
    return "a weight" if len(weights) == 1 else f"{len(weights)} weights"


def local_folder(name: str, file: str = "config.json") -> Path | None:
    """The folder of an encoder or tokenizer; for one of the Hub (`id` or `id@revision`) its folder in the cache.

    `file` is one that every such folder has.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    repo, _, revision = name.partition("@")
    try:
        found = try_to_load_from_cache(repo, file, revision=revision or None)
    except HFValidationError:  # a missing folder; loading it reports that
        return None
    return Path(found).parent if isinstance(found, str) else None


def files(name: str, wanted: Sequence[str] = TOKENIZER_FILES) -> dict[str, str]:
    """The local files of a tokenizer or encoder, with their sha256.

    Every such folder has the first of the `wanted` files.
    """
    folder = local_folder(name, wanted[0])
    return {str(path): digest(path) for file in wanted if folder and (path := folder / file).is_file()}


def header(path: Path) -> dict[str, Any]:
    """Type and shape of each tensor of a safetensors file, by its header: 8 bytes of length, then JSON.

    Raises:
        ValueError: the file is not a safetensors file.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError(f"{path} is no safetensors file")
        tensors = json.loads(file.read(length))
    return {key: tensor for key, tensor in tensors.items() if key != "__metadata__"}
