"""The folder of an encoder: what can be seen of it before any weight is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from xstilts.errors import UserError, nearest


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
