"""A fast tokenizer as the formats see it: token ids of texts, of pairs and of words, and their characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers

BLANKS = ("▁", "Ġ")
"""How tokenizers write a blank."""


class Tokenizer:
    """A fast tokenizer with a maximum length; see `formats.base.TokenizerLike`.

    How special tokens stand around one text and around a pair is read from two probes of the tokenizer, so no family
    needs a rule of its own. Words are read with a space before them, as they stand in a sentence, which gives the same
    pieces for tokenizers that add such a space by themselves and for those that do not.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, *, max_length: int, unk_id: int) -> None:
        self.tokenizer, self.max_length, self.unk_id = tokenizer, max_length, unk_id
        tokenizer.no_padding()
        tokenizer.no_truncation()
        one, two = tokenizer.encode("a"), tokenizer.encode("a", "a")
        (self._head, self._tail), (self._before, self._between, self._after) = _specials(one, 1), _specials(two, 2)

    def max_pieces(self, texts: int) -> int:
        """Pieces that fit beside the special tokens of one text or of a pair."""
        one, two = len(self._head) + len(self._tail), len(self._before) + len(self._between) + len(self._after)
        return self.max_length - (one if texts == 1 else two)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens and without truncation."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def spans(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Token ids of each text as in `encode`, and for each piece the first and last + 1 character it stands for.

        A blank that a tokenizer takes into a piece does not count; a piece of nothing else has an empty span. What it
        drops (a combining mark, a zero-width blank) counts with the piece before it.
        """
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        signs = {self.tokenizer.token_to_id(sign): sign for sign in BLANKS}
        return [(one.ids, _trim(text, one.ids, one.offsets, signs)) for text, one in zip(texts, encodings, strict=True)]

    def words(self, words: Sequence[str]) -> list[tuple[list[int], int]]:
        """For each word its token ids (`unk` if it has none) and which of them has its first character."""
        distinct = list(dict.fromkeys(words))
        encodings = self.tokenizer.encode_batch([" " + word for word in distinct], add_special_tokens=False)
        ids_of: dict[str, tuple[list[int], int]] = {}
        for word, encoding in zip(distinct, encodings, strict=True):
            first = next((i for i, (_, end) in enumerate(encoding.offsets) if end > 1), 0)
            ids_of[word] = (encoding.ids, first) if encoding.ids else ([self.unk_id], 0)
        return [ids_of[word] for word in words]

    def single(self, ids: Sequence[int]) -> tuple[list[int], int]:
        """Add the special tokens of one text; also the position of the first piece."""
        return [*self._head, *ids, *self._tail], len(self._head)

    def pair(self, first: Sequence[int], second: Sequence[int]) -> tuple[list[int], int]:
        """Add the special tokens of a pair; also the position of the second text's first piece."""
        start = len(self._before) + len(first) + len(self._between)
        return [*self._before, *first, *self._between, *second, *self._after], start


def unknown_id(tokenizer: tokenizers.Tokenizer) -> int | None:
    """The id of the token for what the vocabulary lacks; None if there is no such token."""
    strange = "\U0010ffff"  # Unicode will never assign it
    try:
        pieces = tokenizer.model.tokenize(strange)
    except Exception:  # the tokenizers library raises nothing narrower
        return None
    return int(pieces[0].id) if len(pieces) == 1 and tokenizer.id_to_token(pieces[0].id) != strange else None


def _trim(
    text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]], signs: Mapping[int | None, str]
) -> list[tuple[int, int]]:
    """The offsets of a text's pieces without the blanks at their ends, and with the dropped characters that follow.

    Args:
        text: what was split.
        ids: its pieces.
        offsets: first and last + 1 character of each, as the tokenizer has it.
        signs: the pieces that are a blank. A tokenizer that adds one before a word gives it the word's first
            character.
    """
    spans = []
    for i, (first, last) in enumerate(offsets):
        if ids[i] in signs and text[first:last] != signs[ids[i]]:
            last = first
        while first < last and text[last - 1].isspace():
            last -= 1
        while first < last and text[first].isspace():
            first += 1
        after = offsets[i + 1][0] if i + 1 < len(offsets) else len(text)
        while first < last < after and not text[last].isspace():
            last += 1
        spans.append((first, last))
    return spans


def _specials(encoding: Any, texts: int) -> list[list[int]]:
    """Special tokens before, between and after the texts of a probe."""
    groups: list[list[int]] = [[]]
    seen = None
    for token, sequence in zip(encoding.ids, encoding.sequence_ids, strict=True):
        if sequence is None:
            groups[-1].append(token)
        elif sequence != seen:
            groups.append([])
            seen = sequence
    assert len(groups) == texts + 1, "the tokenizer loses a text"
    return groups
