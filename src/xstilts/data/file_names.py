"""Guesses from the names of data files which split and which language they hold."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xstilts import languages
from xstilts.data.find import filled
from xstilts.data.lines import COMPRESSED
from xstilts.data.records import OBJECTS, suffix
from xstilts.errors import UserError

SUFFIXES = frozenset((*OBJECTS, ".csv", ".tsv", ".txt", ".conllu", ".conll", ".bio", ".iob", ".iob2"))
"""Those of the data files of a folder."""
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "valid", "validation", "val"), "dev"),
    **dict.fromkeys(("test", "tst", "eval", "evaluation"), "test"),
}
"""The split that a word of a file's name means."""
_PLAIN_WORDS = frozenset(
    "am an as be do he id in is it me my no or so to us we cat her ice mac may new pan per run sun ton bis".split()
)
"""Codes of languages that are words, too: alone they name no language."""
_PLACEHOLDERS = ("{lang}", "{lang3}", "{language}", "{Language}")


@dataclass(frozen=True)
class DataFile:
    """A file with what its name says; `split` and `language` are empty if it does not say them."""

    path: Path
    relative: str
    """Its path from the folder of the task file, with `/`."""
    split: str
    language: str
    rest: str
    """Its name without split, language and suffix."""
    span: tuple[int, int]
    """Where in `relative` the language stands."""

    def pattern(self, placeholder: str) -> str:
        """The path with a placeholder of `find.filled` in place of the language."""
        return self.relative[: self.span[0]] + placeholder + self.relative[self.span[1] :]


@dataclass(frozen=True)
class _Word:
    """A word of a path, the code of the language that it may name, and whether this needs other files to believe."""

    text: str
    span: tuple[int, int]
    code: str
    place: tuple[bool, bool, bool]
    """Whether it is beside the split's word, the last of its name, a whole folder."""


def data_files(paths: Sequence[Path]) -> list[Path]:
    """The files that the paths name; of a folder all with a suffix of data, sorted.

    Raises:
        UserError: a path does not exist, or a folder has no data files.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [one for one in sorted(path.rglob("*")) if one.is_file() and suffix(str(one)) in SUFFIXES]
            inside = [one for one in inside if not any(part[0] == "." for part in one.relative_to(path).parts)]
            if not inside:
                raise UserError("has no data files", where=str(path), hint=f"known: {', '.join(sorted(SUFFIXES))}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError("no such file or folder", where=str(path))
    return list(dict.fromkeys(found))


def named(paths: Sequence[Path], relative: Sequence[str], codes: Sequence[str]) -> list[DataFile]:
    """What the names of files say.

    Args:
        paths: the files.
        relative: the path of each from the folder of the task file.
        codes: further words that are codes of languages, such as `ceb`.
    """
    splits = [_split(name) for name in relative]
    words = [list(_words(name, split, codes)) for name, split in zip(relative, splits, strict=True)]
    company: dict[str, set[str]] = defaultdict(set)
    for name, split, of_file in zip(relative, splits, words, strict=True):
        for word in of_file:
            company[_template(name, split, word)].add(word.code)
    files = []
    for path, name, split, of_file in zip(paths, relative, splits, words, strict=True):
        believed = [
            word
            for word in of_file
            if len(company[_template(name, split, word)]) > 1
            or word.text in codes
            or (any(word.place) and word.text.lower() not in _PLAIN_WORDS)
        ]
        best = max(believed, key=lambda word: word.place, default=None)
        span = best.span if best else (0, 0)
        rest = " ".join(re.findall(r"[^\W_]+", _template(name, split, best, empty=True)))
        files.append(DataFile(path, name, split[0], best.code if best else "", rest, span))
    return files


def _stem_length(name: str) -> int:
    """The length of a path without its suffixes."""
    path = Path(name)
    ends = len(path.suffix) if path.suffix in COMPRESSED else 0
    return len(name) - ends - len(Path(name[: len(name) - ends]).suffix)


def _split(name: str) -> tuple[str, tuple[int, int]]:
    """The split that a path names, and where its word stands; the last such word counts."""
    found = ("", (0, 0))
    for word in re.finditer(r"[^\W_]+", name[: _stem_length(name)]):
        if split := SPLIT_WORDS.get(word[0].lower()):
            found = (split, word.span())
    return found


def _words(name: str, split: tuple[str, tuple[int, int]], codes: Sequence[str]) -> Iterator[_Word]:
    """The words of a path that may name a language, with a region or script after it."""
    end = _stem_length(name)
    matches = re.finditer(r"[^\W_]+(?:[-_](?:[A-Z]{2}|[A-Z][a-z]{3})(?![^\W_]))?", name[:end])
    places = [word for word in matches if word[0].lower() not in SPLIT_WORDS]
    for word in places:
        code = word[0] if word[0] in codes else languages.named_by(word[0])
        if not code:
            continue
        between = name[word.end() : split[1][0]] if word.end() <= split[1][0] else name[split[1][1] : word.start()]
        treebank = re.fullmatch(r"_[^\W_]+-ud-", between) is not None  # xx_treebank-ud-train.conllu
        beside = bool(split[0]) and (treebank or not re.search(r"[^\W_]", between))
        folder = name[: word.start()][-1:] in ("", "/") and name[word.end() :][:1] == "/"
        yield _Word(word[0], word.span(), code, (beside, word.end() == end, folder))


def _template(name: str, split: tuple[str, tuple[int, int]], word: _Word | None, *, empty: bool = False) -> str:
    """A path with signs in place of its split, its language and its suffixes, or with nothing there."""
    cut = [(_stem_length(name), len(name), ""), (*split[1], "" if empty else "{split}")]
    cut += [(*word.span, "" if empty else "{lang}")] if word else []
    for start, end, sign in sorted(cut, reverse=True):
        if start < end:
            name = name[:start] + sign + name[end:]
    return name


def shared_pattern(files: Sequence[DataFile]) -> str:
    """The path with a placeholder that names all of the files, each for its language; empty if there is none."""
    for placeholder in _PLACEHOLDERS:
        patterns = {file.pattern(placeholder) for file in files}
        if len(patterns) == 1 and all(filled(file.pattern(placeholder), file.language) == file.relative
                                      for file in files):  # fmt: skip
            return patterns.pop()
    return ""


def twice(file: DataFile, split: str, language: str, other: DataFile) -> UserError:
    """The error for two files of the same split and language."""
    what = f"is {split} data in {languages.titled(language)}, as {other.path} is"
    hint = "give the files of one task, with train, dev or test and a language such as .de in their names"
    return UserError(what, where=str(file.path), hint=hint)
