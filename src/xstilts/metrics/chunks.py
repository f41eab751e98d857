"""Finds the chunks that tags mark, and the tags that mark chunks in a way of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from xstilts.errors import visible

_KNOWN = re.compile(r"O|[BIES]-.+", re.DOTALL)
_FOREIGN = re.compile(r"[BI]-|[BIbi][-_:/.|+\u2010-\u2015\u2212].+|\(.*\*\)?|_|\d+", re.DOTALL)
"""Tags that are no parts of speech, even without an O beside them: B-, B_PER, b-per, (PER*, _, 3."""
_PREFIX = re.compile(r"([BIESLUMW])[-_:/.|+\u2010-\u2015\u2212](.+)", re.DOTALL | re.IGNORECASE)
_SUFFIX = re.compile(r"(.+)[-_:/.|+\u2010-\u2015\u2212]([BIESLUMW])", re.DOTALL | re.IGNORECASE)
_AS_BIOES = {"L": "E", "U": "S", "W": "S", "M": "I"}
"""The letters of BILOU, BMEWO and BMES."""
_COUNTED = (
    "it counts O, B-TYPE, I-TYPE, E-TYPE, S-TYPE, or a bare tag for each word, as in POS; "
    "`metrics: [token_accuracy]` compares any tags"
)


def chunks(sentences: Iterable[Sequence[str]]) -> Iterable[tuple[str, int, int]]:
    """Type, first token, last token of each chunk; indices run over all sentences, with an extra `O` after each."""
    tags = [tag for sentence in sentences for tag in (*sentence, "O")]
    parts = {tag: _position_and_type(tag) for tag in set(tags)}
    start, previous, previous_type = 0, "O", ""
    for i, tag in enumerate(tags):
        position, type_ = parts[tag]
        changed = type_ != previous_type
        if previous in "ES" or (previous in "BI" and position in "BSO") or (previous != "O" and changed):
            yield previous_type, start, i - 1
        if position in "BS" or (position in "EI" and previous in "ESO") or (position != "O" and changed):
            start = i
        previous, previous_type = position, type_


def _position_and_type(tag: str) -> tuple[str, str]:
    """The position in a chunk (B, I, E, S; O for none; _ for another bare tag), and the type."""
    if _KNOWN.fullmatch(tag):
        return tag[0], tag[2:] or tag
    return tag[0] if tag[0] in "BIES" else "_", tag


def marks_chunks(tags: Iterable[str]) -> bool:
    """Whether all tags but O name the type of a chunk after B-, I-, E- or S-.

    >>> marks_chunks(["O", "B-PER", "I-PER"]), marks_chunks(["NOUN", "VERB"])
    (True, False)
    """
    return all(_KNOWN.fullmatch(tag) for tag in tags)


def miscounted(tags: Iterable[str]) -> tuple[str, str] | None:
    """The message and hint about a tag that `chunk_f1` would miscount in data with these tags; None without such a tag.

    It counts O, B-, I-, E- and S- (BIO1, BIO2, BIOES), or a bare tag a word (parts of speech), but not both together.

    >>> miscounted(["O", "B-PER", "I-PER"]), miscounted(["NOUN", "SYM", "."])
    (None, None)
    >>> miscounted(["O", "L-PER"])[0]
    "chunk_f1 cannot count the tag 'L-PER' beside 'O'"
    """
    known, others = list[str](), list[str]()
    for tag in tags:
        (known if _KNOWN.fullmatch(tag) else others).append(tag)
    ends = {ending[2].upper() for tag in others if (ending := _SUFFIX.fullmatch(tag))}
    bare = {tag.upper() for tag in others}
    letters = ({"B", "I"} <= bare or {"B", "E"} <= bare) and bare <= set("BIOESLUMW")
    all_foreign = known or letters or {"B", "I"} <= ends
    found = next((tag for tag in others if all_foreign or _FOREIGN.fullmatch(tag)), None)
    if found is None:
        return None
    beside = f" beside '{visible(known[0])}'" if known else ""
    change = _rewritten(found) if known or not found.isdecimal() else "`classes` names numbered tags; "
    return f"chunk_f1 cannot count the tag '{visible(found)}'{beside}", change + _COUNTED


def _rewritten(tag: str) -> str:
    """How to write a tag of another scheme; empty if that is not clear."""
    if before := _PREFIX.fullmatch(tag):
        letter, type_ = before.groups()
    elif after := _SUFFIX.fullmatch(tag):
        type_, letter = after.groups()
    else:
        return "write 'O'; " if tag in ("o", "0", "_", "-", "*") else ""
    return f"write '{_AS_BIOES.get(letter.upper(), letter.upper())}-{type_}'; "
