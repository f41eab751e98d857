"""A fast tokenizer as the formats see it; words that were met before are not split again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

BLANKS = ("▁", "Ġ")
"""How tokenizers write a blank."""
WORDS = 100_000
"""Words whose pieces are remembered."""
SPLITTERS = {"Metaspace", "WhitespaceSplit", "Whitespace", "BertPreTokenizer", "ByteLevel"}
"""Pre-tokenizers after which no piece reaches over a blank."""
HARMLESS = SPLITTERS | {"Punctuation", "Digits"} | {
    "BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Strip", "StripAccents",
}  # fmt: skip
"""Parts that read a word of printable ASCII alike whatever the words beside it are."""


class TokenizerPieces:
    """A fast tokenizer with a maximum length; see `task.Pieces`.

    How special tokens stand around one text and around a pair is read off two probes of the tokenizer, so no family
    needs a rule of its own. Words are read with a space before them, as they stand in a sentence, which gives the same
    pieces for tokenizers that add such a space by themselves and for those that do not.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, unk_id: int) -> None:
        self.tokenizer, self.max_length, self.unk_id = tokenizer, max_length, unk_id
        tokenizer.no_padding()
        tokenizer.no_truncation()
        one, two = tokenizer.encode("a"), tokenizer.encode("a", "a")
        (self._head, self._tail), (self._before, self._between, self._after) = _around(one, 1), _around(two, 2)
        self._words: dict[str, tuple[list[int], int]] = {}
        self._a = one.ids[len(self._head) : len(one.ids) - len(self._tail)]
        self._met: dict[str, list[int]] = {}
        """Pieces of words: of those that stand first, and, with a blank before them, of the others."""
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self._added = re.compile("|".join(re.escape(token.strip()) for token in added) or "(?!)", re.IGNORECASE)
        self._word_by_word = splits_at_blanks(tokenizer) and not any(" " in token.strip() for token in added)

    def room(self, texts: int) -> int:
        """Pieces that fit beside the special tokens of one text or of a pair."""
        one, two = len(self._head) + len(self._tail), len(self._before) + len(self._between) + len(self._after)
        return self.max_length - (one if texts == 1 else two)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Piece ids of each text, without special tokens and without truncation.

        Where the tokenizer reads English word by word, only words that were not met yet are left to it.
        """
        rows = [self._recalled(text) for text in texts] if self._word_by_word else [None] * len(texts)
        if self._word_by_word and None in rows:
            self._meet({word for text, row in zip(texts, rows, strict=True) if row is None for word in _words(text)})
            rows = [self._recalled(text) if row is None else row for text, row in zip(texts, rows, strict=True)]
        rest = iter(self._split([text for text, row in zip(texts, rows, strict=True) if row is None]))
        return [next(rest) if row is None else row for row in rows]

    def _split(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def _recalled(self, text: str) -> list[int] | None:
        """The pieces of a text of which every word was met before."""
        known, ids = self._met, []
        try:
            for word in _words(text):
                ids += known[word]
        except KeyError:
            return None
        return ids

    def _meet(self, words: Iterable[str]) -> None:
        """Remember the pieces of words that stand in no danger of being read otherwise beside other words.

        These are printable ASCII with a blank before them at most, and nothing of an added token within.
        """
        known = self._met  # other threads may add to it, or begin a new one
        if len(known) > WORDS:
            self._met = known = {}
        new = [word for word in words if word and word not in known and not self._added.search(word)]
        before = self._a
        for word, ids in zip(new, self._split(["a" + word if word[0] == " " else word for word in new]), strict=True):
            if word[0] != " ":
                known[word] = ids
            elif ids[: len(before)] == before:
                known[word] = ids[len(before) :]

    def spans(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Piece ids of each text as in `encode`, and for each piece the first and last + 1 character it stands for.

        A blank that a tokenizer takes into a piece does not count; a piece of nothing else has an empty span. What it
        drops (a combining mark, a zero-width blank) counts with the piece before it.
        """
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        signs = {self.tokenizer.token_to_id(sign): sign for sign in BLANKS}
        return [(one.ids, _own(text, one.ids, one.offsets, signs)) for text, one in zip(texts, encodings, strict=True)]

    def words(self, words: Sequence[str]) -> list[tuple[list[int], int]]:
        """For each word its piece ids (`unk` if it has none) and which of them has its first character."""
        known = self._words  # other threads may fill it, or begin a new one
        new = [word for word in dict.fromkeys(words) if word not in known]
        encodings = self.tokenizer.encode_batch([" " + word for word in new], add_special_tokens=False)
        for word, encoding in zip(new, encodings, strict=True):
            first = next((i for i, (_, end) in enumerate(encoding.offsets) if end > 1), 0)
            known[word] = (encoding.ids, first) if encoding.ids else ([self.unk_id], 0)
        if len(known) > WORDS:
            self._words = {}
        return [known[word] for word in words]

    def single(self, ids: Sequence[int]) -> tuple[list[int], int]:
        """Add the special tokens of one text; also the position of the first piece."""
        return [*self._head, *ids, *self._tail], len(self._head)

    def pair(self, first: Sequence[int], second: Sequence[int]) -> tuple[list[int], int]:
        """Add the special tokens of a pair; also the position of the second text's first piece."""
        start = len(self._before) + len(first) + len(self._between)
        return [*self._before, *first, *self._between, *second, *self._after], start


def _own(
    text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]], signs: Mapping[int | None, str]
) -> list[tuple[int, int]]:
    """The offsets of a text's pieces without the blanks at their ends, and with the dropped characters that follow.

    Args:
        text: what was split.
        ids: its pieces.
        offsets: first and last + 1 character of each, as the tokenizer has it.
        signs: the pieces that are a blank. A tokenizer that puts one before a word says that it is the word's first
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


def _around(encoding: Any, texts: int) -> list[list[int]]:
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


def _words(text: str) -> list[str]:
    """What to look up for a text: its first word, and the others (at its end, nothing) with the blank before them."""
    plain = text.isascii() and text.isprintable() and "  " not in text
    return text.replace(" ", "\n ").split("\n") if plain else [""]


def splits_at_blanks(tokenizer: Tokenizer) -> bool:
    """Whether the pieces of printable ASCII are those of its words, each with the one blank before it.

    Told from the kinds of the tokenizer's parts; False for all that is not known to be so.
    """
    parts = [*_kinds(tokenizer.normalizer), *_kinds(tokenizer.pre_tokenizer)]
    splits = any(kind in SPLITTERS and values.get("split", True) and values.get("use_regex", True)
                 for kind, values in parts)  # fmt: skip
    return splits and all(
        kind in HARMLESS or (kind == "Replace" and _within_words(values["pattern"])) for kind, values in parts
    )


def _kinds(part: Any) -> list[tuple[str, dict[str, Any]]]:
    """The kind and the values of a part of a tokenizer, or of all that it is a sequence of."""
    if part is None:
        return []
    state = json.loads(part.__getstate__())
    values = state.get("normalizers") or state.get("pretokenizers") or [state]
    return [(value["type"], value) for value in values]


def _within_words(pattern: Mapping[str, str]) -> bool:
    """Whether what is replaced lies within a word, or is more blanks than one."""
    return " " not in pattern.get("String", " ") or pattern.get("Regex") == " {2,}"
