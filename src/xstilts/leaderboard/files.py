"""Files of the leaderboard's layout, `{task}/test-{language}.{tsv,json,jsonl}`: read and written.

A format's `file` names the file type. Labels have the same layout, except those of questions.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from xstilts.errors import DataError
from xstilts.utils.files import first_error

Reasons: TypeAlias = dict[str, dict[str, dict[str, None]]]
"""By reason, then by subject (a task), the details (languages), each in order."""


def reason_lines(reasons: Reasons) -> list[str]:
    """A line for each reason.

    >>> reason_lines({"no test split": {"xnli": {"de": None, "sw": None}, "panx": {}}})
    ['no test split: xnli (de, sw); panx']
    """
    return [
        f"{why}: " + "; ".join(f"{what} ({', '.join(parts)})" if parts else what for what, parts in of.items())
        for why, of in reasons.items()
    ]


Entries: TypeAlias = list[tuple[str, Any]]
"""The contents of a file: each example's id and value; the id is "" if the position identifies the example."""


@dataclass(frozen=True)
class FileType:
    """One type of file: `read*` take a text and the file's name for messages, `write*` return a text."""

    suffix: str
    by_id: bool
    """Whether ids identify the examples; otherwise their positions in the file do."""
    read: Callable[[str, str], Entries]
    read_labels: Callable[[str, str], Entries]
    write: Callable[[Entries], str]
    write_labels: Callable[[Entries], str]

    def path(self, folder: Path, task: str, language: str) -> Path:
        """The path of a task's file in a language."""
        return folder / task / f"test-{language}.{self.suffix}"


# --- lines, tags, choices: the position identifies an example ---------------------------------------------------------


def _lines(text: str, where: str) -> Entries:
    r"""One label a line; blank lines at the end are ignored.

    >>> _lines("neutral\n entailment \n", "test-en.tsv")
    [('', 'neutral'), ('', 'entailment')]
    """
    stripped = [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []
    for number, line in enumerate(stripped, start=1):
        if "\t" in line:
            hint = "the leaderboard's file has one label a line and nothing else"
            raise DataError(f"has {line.count(chr(9)) + 1} columns", where=f"{where}:{number}", hint=hint)
    return [("", line) for line in stripped]


def _sentences(text: str, where: str) -> Entries:
    r"""One tag a line; one or more blank lines separate sentences.

    >>> _sentences("B-PER\nO\n\n\nO\n", "test-en.tsv")
    [('', ['B-PER', 'O']), ('', ['O'])]
    """
    sentences: list[list[str]] = [[]]
    for _, line in _lines(text, where):
        if line:
            sentences[-1].append(line)
        else:
            sentences.append([])
    return [("", sentence) for sentence in sentences if sentence]


def _choices(text: str, where: str) -> Entries:
    r"""JSON lines with a `label`: a text or a whole number, compared as text; None for a line without one.

    >>> _choices('{"label": 1, "idx": 7}\n{"premise": "p"}', "test-et.jsonl")
    [('', '1'), ('', None)]
    """
    entries: Entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            row = _json(_OBJECT, line, f"{where}:{number}", 'each line is a JSON object such as {"label": 0}')
            label = row.get("label")
            if not isinstance(label, str | int | None) or isinstance(label, bool):
                what = f"the label is {json.dumps(label)}, neither a text nor a whole number"
                raise DataError(what, where=f"{where}:{number}")
            entries.append(("", None if label is None else str(label)))
    return entries


def _write_lines(entries: Entries) -> str:
    return "".join(f"{_one_line(value)}\n" for _, value in entries)


def _write_tags(entries: Entries) -> str:
    return "".join("".join(f"{_one_line(tag)}\n" for tag in tags) + "\n" for _, tags in entries)


def _write_choices(entries: Entries) -> str:
    return "".join(json.dumps({"label": value}, ensure_ascii=False) + "\n" for _, value in entries)


def _one_line(value: Any) -> str:
    return " ".join(str(value).split())


# --- answers, rankings, pairs: an id identifies an example ---------------------------------------------------------


class _Answer(BaseModel):
    text: str


class _Question(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: str
    answers: list[_Answer] = []


class _Paragraph(BaseModel):
    qas: list[_Question]


class _Article(BaseModel):
    paragraphs: list[_Paragraph]


class _Squad(BaseModel):
    data: list[_Article]


_LOOSE = ConfigDict(coerce_numbers_to_str=True)
_OBJECT = TypeAdapter(dict[str, Any])
_TEXTS = TypeAdapter(dict[str, str], config=_LOOSE)
_LISTS = TypeAdapter(dict[str, list[str]], config=_LOOSE)
_SQUAD = TypeAdapter(_Squad)


def _json(adapter: TypeAdapter[Any], text: str, where: str, hint: str) -> Any:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise DataError(first_error(error), where=where, hint=hint) from None


def _by_id(adapter: TypeAdapter[Any], text: str, where: str, hint: str) -> Entries:
    """The entries of a JSON object, which must have different names."""
    found = _json(adapter, text, where, hint)
    named = json.loads(text, object_pairs_hook=lambda pairs: Counter(name for name, _ in pairs), parse_int=str)
    if named.total() > len(found):
        name, times = named.most_common(1)[0]
        raise DataError(f"has '{name}' {times} times", where=where, hint="each id may have only one")
    return list(found.items())


def _answers(text: str, where: str) -> Entries:
    """{id: answer}.

    >>> _answers('{"q1": "in 1894"}', "test-en.json")
    [('q1', 'in 1894')]
    """
    return _by_id(_TEXTS, text, where, 'predictions are one JSON object, {"id of the question": "answer"}')


def _questions(text: str, where: str) -> Entries:
    """The right answers in SQuAD's layout: the texts of each question.

    >>> _questions('{"data": [{"paragraphs": [{"qas": [{"id": 1, "answers": [{"text": "mill"}]}]}]}]}', "test-en.json")
    [('1', ['mill'])]
    """
    found = _json(_SQUAD, text, where, 'labels are in the layout of SQuAD: {"data": [{"paragraphs": ...}]}')
    questions = (q for article in found.data for paragraph in article.paragraphs for q in paragraph.qas)
    return [(question.id, [answer.text for answer in question.answers]) for question in questions]


def _rankings(text: str, where: str) -> Entries:
    """{id: [ids]}, the best first."""
    return _by_id(_LISTS, text, where, 'the file is one JSON object, {"id": ["id", ...]}')


def _relevant(text: str, where: str) -> Entries:
    """{id: [relevant ids]}; blanks around the ids are ignored, as in the official code.

    >>> _relevant('{"m1": ["Q47 "]}', "test-ar.json")
    [('m1', ['Q47'])]
    """
    return [(key, [id.strip() for id in ids]) for key, ids in _rankings(text, where)]


def _pairs(text: str, where: str) -> Entries:
    r"""`id TAB id` lines: the targets of each source sentence.

    >>> _pairs("de-1\ten-7\nde-2\ten-3\nde-1\ten-8\n", "test-de.tsv")
    [('de-1', ['en-7', 'en-8']), ('de-2', ['en-3'])]
    """
    targets: dict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            ids = [id.strip() for id in line.split("\t")]
            if len(ids) != 2 or not all(ids):
                raise DataError("is no pair", where=f"{where}:{number}", hint="a line is `id TAB id`")
            targets[ids[0]].append(ids[1])
    return list(targets.items())


def _write_object(entries: Entries) -> str:
    return json.dumps(dict(entries), ensure_ascii=False, indent=1) + "\n"


def _write_questions(entries: Entries) -> str:
    """SQuAD's layout, with the fields that scoring needs."""
    questions = [
        {"id": id, "question": "", "answers": [{"text": text, "answer_start": 0} for text in right]}
        for id, right in entries
    ]
    document = {"version": "1.1", "data": [{"title": "", "paragraphs": [{"context": "", "qas": questions}]}]}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _write_pairs(entries: Entries) -> str:
    return "".join(f"{id}\t{target}\n" for id, targets in entries for target in targets)


FILE_TYPES: dict[str, FileType] = {
    "lines": FileType("tsv", False, _lines, _lines, _write_lines, _write_lines),
    "tags": FileType("tsv", False, _sentences, _sentences, _write_tags, _write_tags),
    "choices": FileType("jsonl", False, _choices, _choices, _write_choices, _write_choices),
    "answers": FileType("json", True, _answers, _questions, _write_object, _write_questions),
    "rankings": FileType("json", True, _rankings, _relevant, _write_object, _write_object),
    "pairs": FileType("tsv", True, _pairs, _pairs, _write_pairs, _write_pairs),
}
"""By the value of a format's `file`."""
