"""Reads sentences from files with one token per line: CoNLL-U, as XTREME does for UDPOS, and token-tag files.

Source: XTREME's `third_party/ud-conversion-tools` (fused tokens), `utils_preprocess.py` (`udpos_preprocess`,
`panx_preprocess`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from xstilts.errors import DataError

COLUMNS = 10
PRECEDENCE: dict[str, tuple[str, ...]] = {
    "es": ("VERB", "AUX", "PRON", "ADP", "DET"),
    "fr": ("VERB", "AUX", "PRON", "NOUN", "ADJ", "ADV", "ADP", "DET", "PART", "SCONJ", "CONJ"),
    "it": ("VERB", "AUX", "ADV", "PRON", "ADP", "DET", "INTJ"),
}
"""Per language: a fused token takes the tag that comes first here, among its parts that are highest in the tree."""
DEFAULT_PRECEDENCE = (
    *("VERB", "NOUN", "PROPN", "PRON", "ADJ", "NUM", "ADV", "INTJ"),
    *("AUX", "ADP", "DET", "PART", "CCONJ", "SCONJ", "X", "PUNCT"),
)


class Tokens(NamedTuple):
    """One sentence: the number of its first line, its words, and their tags or None."""

    line: int
    words: list[str]
    tags: list[str] | None


def sentences(lines: Iterable[tuple[int, str]], language: str, file: str) -> Iterator[Tokens]:
    """Yield the sentences of a CoNLL-U file.

    A multiword token becomes one word with the tag of its highest part. Drops empty nodes, and sentences in which at
    most one word is not `_` (treebanks published without their text).

    Args:
        lines: line number and text without its line end.
        language: selects the precedence of tags for fused tokens.
        file: for error messages.

    Raises:
        DataError: a line does not have 10 columns, or a multiword token lacks a part.
    """
    block: list[tuple[int, list[str]]] = []
    for number, text in lines:
        if text.strip():
            if not text.startswith("#"):
                block.append((number, _columns(text, f"{file}:{number}")))
        elif block:
            yield from _sentence(block, language, file)
            block = []
    if block:
        yield from _sentence(block, language, file)


def tagged(lines: Iterable[tuple[int, str]], language: str, file: str, *, tabs: bool) -> Iterator[Tokens]:
    """Yield the sentences of a file with one token per line: word first, tag last, blank lines between sentences.

    If every token of the first sentence begins with the language code and a colon, as in raw PAN-X, the prefix is
    removed from all tokens, and tokens without a colon are dropped (as XTREME does).

    Args:
        lines: line number and text without its line end.
        language: the code that may prefix tokens.
        file: for error messages.
        tabs: whether only tabs separate columns; otherwise spaces do, too, in lines without a tab.

    Raises:
        DataError: the number of columns differs between lines.
    """
    width, prefixed = 0, None
    block: list[tuple[int, list[str]]] = []
    for number, whole in chain(lines, [(0, "")]):
        text = whole.rstrip(" \t")
        if text and not text.startswith("-DOCSTART-"):
            cells = text.split("\t") if tabs or "\t" in text else re.split(" +", text)
            width = width or len(cells)
            if len(cells) != width:
                columns = f"column{'s' * (len(cells) != 1)}, the lines before have {width}"
                raise DataError(f"has {len(cells)} {columns}", where=f"{file}:{number}")
            block.append((number, cells))
        elif block:
            if prefixed is None:
                prefixed = all(cells[0].startswith(f"{language}:") for _, cells in block)
            if prefixed:
                block = [(line, [_without_prefix(cells[0]), *cells[1:]]) for line, cells in block if ":" in cells[0]]
            if block:
                tags = [cells[-1] for _, cells in block] if width > 1 else None
                yield Tokens(block[0][0], [cells[0] for _, cells in block], tags)
            block = []


def _without_prefix(token: str) -> str:
    return token.partition(":")[2].strip()


def _columns(text: str, where: str) -> list[str]:
    cells = text.split("\t")
    if len(cells) != COLUMNS:
        raise DataError(f"has {len(cells)} columns, CoNLL-U has {COLUMNS}", where=where)
    return cells


def _sentence(block: list[tuple[int, list[str]]], language: str, file: str) -> Iterator[Tokens]:
    forms: dict[str, str] = {}
    tags: dict[str, str] = {}
    heads: dict[str, set[str]] = {}
    fused: list[tuple[list[str], str]] = []
    for number, cells in block:
        if cells[0].isdecimal():
            forms[cells[0]], tags[cells[0]] = cells[1], cells[3]
            # enhanced dependencies are edges, too, when ancestors are counted
            enhanced = (head.split(":")[0] for head in cells[8].split("|"))
            heads[cells[0]] = {cells[6], *(head for head in enhanced if head.isdecimal())}
        elif "-" in cells[0]:
            fused.append((_span(cells[0], len(block), f"{file}:{number}"), cells[1]))
        elif "." not in cells[0]:
            raise DataError(f"'{cells[0]}' is not a token number", where=f"{file}:{number}")
    for parts, form in fused:
        if not all(part in forms for part in parts):
            raise DataError(f"the multiword token '{form}' lacks a part", where=f"{file}:{block[0][0]}")
        highest = _highest(parts, heads, tags, PRECEDENCE.get(language, DEFAULT_PRECEDENCE))
        for part in parts:
            if part != highest:
                del forms[part]
        forms[highest] = form
    words = [form.strip() for form in forms.values()]
    unknown = words.count("_")
    if unknown == 0 or unknown < len(words) - 1:
        clean = [word.replace("\u200c", "").replace(" ", "") for word in words]
        yield Tokens(block[0][0], clean, [tags[number].strip() for number in forms])


def _span(token: str, max_parts: int, where: str) -> list[str]:
    first, _, last = token.partition("-")
    if not (first.isdecimal() and last.isdecimal() and len(token) < 20):
        raise DataError(f"'{token}' is not a token number", where=where)
    if not 0 <= int(last) - int(first) < max_parts:
        raise DataError(f"'{token}' is not a range of tokens of this sentence", where=where)
    return [str(part) for part in range(int(first), int(last) + 1)]


def _highest(parts: list[str], heads: dict[str, set[str]], tags: dict[str, str], order: tuple[str, ...]) -> str:
    """The part with the fewest ancestors; ties go to the tag that comes first in `order`, then to the leftmost."""

    def rank(part: str) -> tuple[int, int]:
        ancestors: set[str] = set()
        todo = [part]
        while todo:
            new = heads.get(todo.pop(), set()) - ancestors
            ancestors |= new
            todo.extend(new)
        tag = tags[part]
        return len(ancestors - {part}), order.index(tag) if tag in order else len(order)

    return min(parts, key=rank)
