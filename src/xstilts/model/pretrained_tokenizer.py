"""Loads the tokenizer of a folder or of the Hub: the rules of its tokenizer.json and its special tokens, nothing else.

transformers rebuilds many tokenizers from their vocabulary and so drops rules of tokenizer.json. A BERT folder with
another family's tokenizer.json would get BERT's rules.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers

from xstilts.compute.private import set_backend
from xstilts.errors import UserError
from xstilts.utils.files import read_json, reject_lfs_pointer

SPELLINGS = {
    "bos_token": ("<s>",), "eos_token": ("</s>",), "cls_token": ("<s>", "[CLS]"), "sep_token": ("</s>", "[SEP]"),
    "pad_token": ("<pad>", "[PAD]"), "unk_token": ("<unk>", "[UNK]"), "mask_token": ("<mask>", "[MASK]"),
}  # fmt: skip
"""Each role of a special token, with its usual spellings."""
WITHOUT_DEFAULTS = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes whose special tokens are only those that the folder names."""
EXTRA = ("extra_special_tokens", "additional_special_tokens")
SETTINGS = ("model_max_length", "model_input_names", "padding_side", "truncation_side", "clean_up_tokenization_spaces")
"""Words of tokenizer_config.json that are kept."""


def load(name: str, *, config: Any = None, revision: str = "", remote_code: bool = False) -> Any:
    """The tokenizer as transformers' `PreTrainedTokenizerFast`; without tokenizer.json, as transformers converts it.

    Args:
        name: a folder or a Hub id.
        config: the encoder's; with several token types, the tokenizer also returns them.
        revision: of a Hub id.
        remote_code: whether the tokenizer's own code may run.

    Raises:
        UserError: the tokenizer's own class has other rules than tokenizer.json.
        Exception: transformers and tokenizers raise all kinds for a broken file.
    """
    from transformers import AutoTokenizer

    common: dict[str, Any] = {"revision": revision} if revision else {}
    path = _file(name, "tokenizer.json", common)
    words = _words(_file(name, "tokenizer_config.json", common))
    if path is None or "auto_map" in words:
        theirs = AutoTokenizer.from_pretrained(name, trust_remote_code=remote_code, **common)
        if path is None:
            return theirs
        if not type(theirs).__module__.startswith("transformers.") and not _same_rules(theirs, path):
            what = f"the tokenizer's class, {type(theirs).__name__}, has other rules than its tokenizer.json"
            hint = "take auto_map out of tokenizer_config.json to use tokenizer.json as it is"
            raise UserError(what, where=name, hint=hint)
    settings: dict[str, Any] = {key: words[key] for key in SETTINGS if words.get(key) is not None}
    types = ["token_type_ids"] if getattr(config, "type_vocab_size", 1) > 1 else []
    settings.setdefault("model_input_names", ["input_ids", *types, "attention_mask"])
    backend = tokenizers.Tokenizer.from_file(str(path))
    named = _words(_file(name, "special_tokens_map.json", common)) | words
    return wrapped(backend, _roles(named, backend), _extra(named), **settings)


def wrapped(
    backend: tokenizers.Tokenizer, roles: Mapping[str, str | None], extra: Iterable[str] = (), **settings: Any
) -> Any:
    """A tokenizer for transformers, with its rules unchanged.

    Args:
        backend: the rules.
        roles: a token of the vocabulary for each role, such as `mask_token`.
        extra: special tokens without a role.
        settings: of transformers' class.
    """
    from transformers import PreTrainedTokenizerFast

    empty = tokenizers.Tokenizer(tokenizers.models.BPE())
    made = PreTrainedTokenizerFast(tokenizer_object=empty, **settings)  # type: ignore[no-untyped-call]
    backend.no_padding()
    backend.no_truncation()
    set_backend(made, backend)  # its constructor would copy the rules and add tokens to them
    for role, token in roles.items():
        setattr(made, role, token)
    made.extra_special_tokens = [token for token in extra if backend.token_to_id(token) is not None]
    return made


def save(tokenizer: Any, folder: Path) -> None:
    """Write the files of a tokenizer; transformers reads them as they are.

    Raises:
        OSError: a file cannot be written.
    """
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:  # tokenizers raises nothing narrower
        raise OSError(str(error)) from error
    path = folder / "tokenizer_config.json"
    words = read_json(path)
    if words["tokenizer_class"] == "TokenizersBackend":  # transformers 4 knows the other name only
        words["tokenizer_class"] = "PreTrainedTokenizerFast"
        path.write_text(json.dumps(words, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _file(name: str, file: str, common: Mapping[str, Any]) -> Path | None:
    """A file of a folder or of the Hub; None if there is none."""
    from transformers.utils.hub import cached_file

    found = cached_file(name, file, _raise_exceptions_for_missing_entries=False, **common)
    if found:
        reject_lfs_pointer(found)
    return Path(found) if found else None


def _words(path: Path | None) -> dict[str, Any]:
    """The content of a JSON file with named values; empty if there is no such file."""
    words = read_json(path) if path else {}
    if not isinstance(words, dict):
        raise ValueError(f"{path} must be a JSON object")
    return words


def _same_rules(tokenizer: Any, path: Path) -> bool:
    """Whether a tokenizer splits text as a tokenizer.json does."""
    if not hasattr(tokenizer, "backend_tokenizer"):
        return False
    own = tokenizers.Tokenizer.from_file(str(path))
    theirs, ours = (json.loads(one.to_str()) for one in (tokenizer.backend_tokenizer, own))
    return all(theirs[part] == ours[part] for part in ("normalizer", "pre_tokenizer", "model", "post_processor"))


def _roles(words: Mapping[str, Any], backend: tokenizers.Tokenizer) -> dict[str, str | None]:
    """The special token of each role: as named, if tokenizer.json has it; else as it is usually spelled there."""
    roles = {}
    for role, usual in SPELLINGS.items():
        named = [token for token in [_content(words.get(role))] if token]
        spelled = () if words.get("tokenizer_class") in WITHOUT_DEFAULTS or words.get(role, "") is None else usual
        roles[role] = next((token for token in (*named, *spelled) if backend.token_to_id(token) is not None), None)
    return roles


def _extra(words: Mapping[str, Any]) -> list[str]:
    """The named special tokens without a role."""
    values = [words.get(key) or [] for key in EXTRA]
    tokens = [token for value in values for token in (value.values() if isinstance(value, dict) else value)]
    return list(dict.fromkeys(text for token in tokens if (text := _content(token))))


def _content(token: Any) -> str | None:
    """A token that is written as text or as an object with `content`."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None
