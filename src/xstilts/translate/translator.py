"""Translates texts by an engine: each line once, the shortest first, kept in a file that a killed run goes on from."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from xstilts import languages
from xstilts.errors import UserError
from xstilts.translate.engine import Engine, Line
from xstilts.utils.locks import require_lock
from xstilts.utils.progress import Progress

LONG = 15
"""A line of at least so many characters is more than a name or a number."""
ENOUGH = 20
"""After so many long lines their share tells whether an engine translates at all."""
_MARKED = re.compile(r"<(\w+)>.*?</\1>|\[.*?\]")
"""An answer or entity, which may be a name."""
_TAG = re.compile(r"<(/?)[a-z]+>")
_LINE_END = re.compile("\n")
_MARKUP = re.compile(r"\n| ?\[(?:header|title|step|substeps|([a-z]+)\].*?\[/\1)\] ?")
"""Also HellaSwag's words in brackets, and QQP's formulas from `[math]` to `[/math]`, which engines would translate."""
_UNSPACED = ("zh", "ja")


class Sentence(NamedTuple):
    """A sentence or line of a text, its translation, and what stands after that in the translated text."""

    source: str
    text: str
    after: str

    @staticmethod
    def join(sentences: Sequence[Sentence]) -> str:
        """The translated text; empty where the engine returned nothing for a line."""
        if any(_has_letters(one.source) and not one.text for one in sentences):
            return ""
        return "".join(one.text + one.after for one in sentences)


class Translator:
    """Translates texts with an engine and a file of finished lines; a context manager.

    `counts` has, of all lines of the texts so far, `lines` and those that are `cut`, `empty` or `unchanged`.
    """

    def __init__(self, engine: Engine, folder: Path, progress: Progress) -> None:
        self.engine, self.progress = engine, progress
        self.counts: Counter[str] = Counter()
        self.pair = engine.identity["from"], engine.identity["to"]
        name = hashlib.sha256(json.dumps(engine.identity, sort_keys=True).encode()).hexdigest()[:12]
        self.path = folder / f"{engine.identity['engine']}-{'-'.join(self.pair)}-{name}.jsonl"
        self._finished: dict[str, Line] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Translator:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b")
        require_lock(self._file, "another run translates with this engine", str(self.path))
        self._file.seek(0)
        end = 0
        for raw in self._file:
            try:
                source, text, cut = json.loads(raw)
            except ValueError:
                break  # a killed run wrote a part of this line
            if not raw.endswith(b"\n"):
                break
            self._finished[source] = Line(text, cut)
            end += len(raw)
        self._file.truncate(end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def __call__(self, texts: Iterable[str], *, probe: bool = True, markup: bool = False) -> list[str]:
        """The translations of texts, in order; empty where the engine returned nothing for a line.

        With `probe`, an engine that does not translate is refused; answers alone may well be names. With `markup`,
        texts are divided at `[title]`, `[step]` and the like, and at `[math]` with its `[/math]`, which stay.

        Raises:
            UserError: the engine fails, or returns most lines empty or unchanged.
        """
        found = self.sentences(texts, split=self.engine.splits, probe=probe, markup=markup)
        return [Sentence.join(text) for text in found]

    def sentences(
        self, texts: Iterable[str], *, split: bool, probe: bool = True, markup: bool = False
    ) -> list[list[Sentence]]:
        """What a call joins: the translated lines of each text, or its sentences with `split`.

        Raises:
            UserError: the engine fails, or returns most lines empty or unchanged.
        """
        texts = [_clean(text) for text in texts]
        pieces = {text: list(self._pieces(text, markup, split)) for text in dict.fromkeys(texts)}
        lines = dict.fromkeys(line for text in pieces for line, _ in pieces[text] if _has_letters(line))
        self._translate([line for line in lines if line not in self._finished], probe)
        if probe:
            self._refuse_untranslated(lines)
        for text in texts:
            for line in (self._finished[line] for line, _ in pieces[text] if _has_letters(line)):
                self.counts["lines"] += 1
                self.counts["cut"] += line.cut
                self.counts["empty"] += not line.text
            self.counts["unchanged"] += sum(
                line == self._finished[line].text for line, _ in pieces[text] if _has_letters(line)
            )
        return [
            [Sentence(line, self._finished[line].text if _has_letters(line) else line, after)
             for line, after in pieces[text]]
            for text in texts
        ]  # fmt: skip

    def _translate(self, lines: list[str], probe: bool) -> None:
        """Translate lines, the shortest first, and keep each batch when it is done."""
        lines.sort(key=lambda line: (len(line), line))
        started, next_probe = time.monotonic(), 4 * ENOUGH
        for first in range(0, len(lines), self.engine.batch):
            batch = lines[first : first + self.engine.batch]
            found = self.engine.translate(batch)
            if len(found) != len(batch):
                raise UserError(f"returned {len(found)} lines, not {len(batch)}", where=self.engine.identity["engine"])
            assert self._file is not None
            for source, line in zip(batch, found, strict=True):
                line = line._replace(text=" ".join(line.text.split()))
                self._finished[source] = line
                row = json.dumps([source, line.text, line.cut], ensure_ascii=False)
                self._file.write(row.encode() + b"\n")
            self._file.flush()
            done = first + len(batch)
            left = (time.monotonic() - started) / done * (len(lines) - done)
            self.progress.update(done, len(lines), "lines", left)
            if probe and done >= next_probe:
                self._refuse_untranslated(lines[:done])
                next_probe = 2 * done

    def _refuse_untranslated(self, lines: Iterable[str]) -> None:
        """Refuse an engine that returns more than half of the long lines empty, or as they were.

        Raises:
            UserError: the engine does; the message has an example.
        """
        long = [line for line in lines if len(_MARKED.sub("", line)) >= LONG]
        for what, found in (
            ("empty", [line for line in long if not self._finished[line].text]),
            ("unchanged", [line for line in long if self._finished[line].text == line]),
        ):
            if len(long) >= ENOUGH and 2 * len(found) > len(long):
                engine = " ".join(self.engine.identity.get(key, "") for key in ("engine", "command", "model")).strip()
                message = f"{len(found)} of {len(long)} lines came back {what}, such as: {found[0][:80]}"
                raise UserError(message, where=engine, hint=f"does it translate {self.pair[0]} to {self.pair[1]}?")

    def _pieces(self, text: str, markup: bool, split: bool) -> Iterator[tuple[str, str]]:
        """The lines for the engine, each with what stands after it in the translation."""
        at = 0
        for kept in (_MARKUP if markup else _LINE_END).finditer(text):
            yield from self._sentences(text[at : kept.start()], kept[0], split)
            at = kept.end()
        yield from self._sentences(text[at:], "", split)

    def _sentences(self, text: str, after: str, split: bool) -> Iterator[tuple[str, str]]:
        """The line, or its sentences with `split`, and what stands after each."""
        parts = split_sentences(text, self.pair[0]) if split else [text]
        between = "" if languages.base(self.pair[1]) in _UNSPACED else " "
        for part in parts[:-1]:
            yield part, between
        yield parts[-1], after


def split_sentences(text: str, code: str) -> list[str]:
    """The sentences of a line, split at Unicode's boundaries; none between an opening tag and its closing one.

    >>> split_sentences("See <b>Mr. Ito. He</b> left. Why?", "en")
    ['See <b>Mr. Ito. He</b> left.', 'Why?']

    Raises:
        UserError: the package that finds sentences is not installed.
    """
    try:
        from xstilts.corpus.sentences import boundaries
    except ImportError as error:
        hint = 'pip install "xstilts[mt]"'
        raise UserError("needs the package icu4py to split texts", where="translate", hint=hint) from error
    found: list[str] = []
    for part in filter(None, boundaries(text, code)):
        tags = _TAG.findall(found[-1]) if found else []
        if tags.count("") > tags.count("/"):
            found[-1] += " " + part
        else:
            found.append(part)
    return found or [text]


def _clean(text: str) -> str:
    """The text without blanks at the ends of lines or in a row, and without empty lines."""
    return "\n".join(filter(None, (" ".join(line.split()) for line in text.split("\n"))))


def _has_letters(text: str) -> bool:
    return any(character.isalpha() for character in text)
