"""The metadata that `xstilts corpus` writes beside a text: how many sentences `--limit` left out, among others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from xstilts.tasks.source import File
from xstilts.utils.files import read_json


class CutCorpus(NamedTuple):
    """A text that holds a sample of its source's sentences."""

    metadata_path: str
    sentences: int
    """Sentences in the text."""
    of: int
    """Sentences in the source."""
    unchanged: bool
    """Whether the text still has the size that the metadata give."""
    left_out: int
    """Sentences of the source that the limit left out, in proportion to the part of the text that is read."""


def metadata_file(text: str | Path) -> Path:
    """The path of a text's metadata: `sw.json` for `sw.txt`."""
    return Path(text).with_suffix(".json")


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a finished language; empty if the file does not exist or cannot be read."""
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def is_damaged(text: str) -> bool:
    """Whether a text's metadata exist, but are no JSON object or have numbers of sentences that are no numbers."""
    path = metadata_file(text)
    if not text.endswith(".txt") or not path.is_file():
        return False
    values = read_metadata(path)
    return not values or not all(isinstance(values.get(name, 0), int) for name in ("sentences", "of"))


def cut_corpus(text: str, language: str, file: File) -> CutCorpus | None:
    """What the metadata say of a text that `xstilts corpus --limit` has cut; None for any other text."""
    path = metadata_file(text)
    if not text.endswith(".txt") or not path.is_file():
        return None
    values = read_metadata(path)
    sentences, of, size = (values.get(name) for name in ("sentences", "of", "bytes"))
    if values.get("language") != language or not (isinstance(sentences, int) and isinstance(of, int)):
        return None
    if of <= sentences:
        return None
    unchanged = size == Path(text).stat().st_size
    left_out = len(file.rows_of(of)) - len(file.rows_of(sentences))
    return CutCorpus(str(path), sentences, of, unchanged, left_out)
