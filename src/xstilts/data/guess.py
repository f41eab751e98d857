"""Guesses the format of a data file, and which of its columns are texts, labels or endings."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from xstilts.data.columns import Column, Guess, Named, Table, language_column, split_column, table, token_lines
from xstilts.data.guess_tags import records_with_tags, tagged
from xstilts.data.headers import is_id, is_label, words_of
from xstilts.data.lines import lines
from xstilts.data.records import OBJECTS, label_names, suffix
from xstilts.errors import DataError, UserError, listed, nearest, visible
from xstilts.formats.base import NO_LABEL
from xstilts.formats.span import is_impossible

MOST_LABELS = 100
"""A column with more values has no labels."""
MOST_SCORES = 20
"""A column of numbers with decimals and more values has none."""
_PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("text1", "text2"), ("question1", "question2"),
    ("sentence_1", "sentence_2"), ("text_1", "text_2"), ("texta", "textb"), ("text_a", "text_b"), ("s1", "s2"),
    ("context", "hypothesis"), ("sentence", "context"), ("question", "sentence"), ("question", "passage"),
    ("query", "passage"), ("query", "document"), ("claim", "evidence"), ("headline", "body"),
)  # fmt: skip
"""Usual names of the two texts of a pair."""
_ENDING = re.compile(r"(choice|ending|option|answer|sol|solution|alternative|opt)[ _-]?(\d|[a-h])", re.IGNORECASE)
_USUAL = ("text", "sentence", "review", "tweet", "comment", "content", "message")
"""Usual names of a single text."""
_LISTS = ("endings", "choices", "options", "answers", "alternatives")
_CONTEXTS = ("context", "ctx", "passage", "paragraph", "article", "story", "premise", "document", "text", "sentence")
_CAUSES = {"cause": "What was the cause?", "effect": "What was the effect?"}
"""The questions of COPA."""
_QUESTIONS = ("question", "query", "stem")


def guess(path: str, named: Named) -> Guess:
    """Guess the format of a file with labels.

    Raises:
        UserError: the file cannot be read, or the guess needs a name from the user.
    """
    kind = suffix(path)
    if kind == ".conllu":
        return Guess("tag", {"metrics": ["chunk_f1"]}, {"metrics": "runs of equal tags, as XTREME scores POS"})
    if kind not in (*OBJECTS, ".csv") and (tokens := tagged(path)) is not None:
        return tokens
    if kind not in (*OBJECTS, ".csv", ".tsv"):
        return _plain(path)
    read = table(path, named.all)
    for name in named.all:
        if name not in read.columns:
            raise UserError(f"has no column '{visible(name)}'", where=path, hint=nearest(name, read.columns, "it has"))
    others = {split_column(read)[0], language_column(read)[0]}.difference(named.all)
    columns = {name: column for name, column in read.columns.items() if column.filled and name not in others}
    for shape in (records_with_tags, _span, _choose, _classify):
        if found := shape(path, read, columns, named):
            return found
    raise AssertionError("the last shape guesses or raises")


# --- questions with answers


def _span(path: str, read: Table, columns: Mapping[str, Column], named: Named) -> Guess | None:
    """The guess for questions with contexts and answers; refuses answers without lists."""
    question, context = _first(columns, ("question", "query")), _first(columns, _CONTEXTS[:5])
    answers = _first(columns, ("answers", "answer"))
    impossible = _first(columns, ("is_impossible",))
    if named.label or not question or not context or not (answers or impossible):
        return None
    if answers and columns[answers].kind in ("text", "number"):
        lists = [name for name in _LISTS if name in columns and columns[name].kind in ("list", "object")]
        if _has_endings(columns) or lists or columns[answers].kind == "number" or columns[answers].repeats:
            return None
        hint = 'write JSON lines with `"answers": [{"text": ..., "answer_start": ...}]`'
        raise UserError(f"has a text as '{answers}'; an answer is a list", where=path, hint=hint)
    if answers and not _objects(path, answers):
        return None
    none = has_no_answer(path, answers)
    names = {"context": context, "question": question, "answers": answers}
    columns_of_file = {ours: theirs for ours, theirs in names.items() if theirs and ours != theirs}
    comment = "questions without an answer, as in SQuAD 2" if none else "true: questions may have no answer"
    return Guess("span", {"no_answer": none, "max_length": 384}, {"no_answer": comment}, columns_of_file or None, read)


def _objects(path: str, answers: str) -> bool:
    """Whether answers are those of SQuAD or of the Hub, not the endings of a choice."""
    for _, record in OBJECTS[suffix(path)](path, None):
        value = record.get(answers)
        if isinstance(value, dict):
            return "answer_start" in value
        if isinstance(value, list) and value:
            return isinstance(value[0], dict) and "label" not in value[0]
    return True


def has_no_answer(path: str, answers: str) -> bool:
    """Whether a question of a file of records has no answer in its column `answers`."""
    records = (record for _, record in OBJECTS[suffix(path)](path, None))
    return any(is_impossible(record) or _no_texts(record.get(answers)) for record in records)


def _no_texts(answers: Any) -> bool:
    """Whether there is a list of answers without an answer."""
    return answers == [] or (isinstance(answers, dict) and answers.get("text") == [])


# --- choices


def _has_endings(columns: Mapping[str, Column]) -> list[str]:
    """The columns of the endings, one each; empty if there are not two."""
    groups: dict[str, list[str]] = {}
    for name in columns:
        if match := _ENDING.fullmatch(name):
            groups.setdefault(match[1].lower(), []).append(name)
    most = max(groups.values(), key=len, default=[])
    return sorted(most) if len(most) > 1 else []


def _choose(path: str, read: Table, columns: Mapping[str, Column], named: Named) -> Guess | None:
    """The guess for a context with endings to choose from; None if the file has no columns of endings."""
    endings = _has_endings(columns)
    lists = [name for name in _LISTS if name in columns and columns[name].kind in ("list", "object")]
    if not endings and not lists:
        return None
    endings = endings or lists[:1]
    label = named.label or _choice_label(columns, endings)
    if not label:
        what = f"has the endings {', '.join(endings)}, and no column with the right one"
        raise UserError(what, where=path, hint=f"name it with --label; its columns are {listed([*columns], 20)}")
    contexts = list(named.texts) or _contexts(columns, {*endings, label})
    if not contexts:
        raise UserError("has no column with a context", where=path, hint="name it with --text")
    count = len(endings) if len(endings) > 1 else columns[endings[0]].longest
    fields: dict[str, Any] = {"context": contexts[:1]} | ({"stem": contexts[1:]} if contexts[1:] else {})
    fields |= {"endings": endings, "label": label}
    answers = _answers(path, columns[label], endings, count)
    comments = {"context": "the first text", "stem": "the beginning of the second text, before each ending"}
    if contexts[1:] and {*columns[contexts[1]].values} <= _CAUSES.keys():
        fields["spellings"], comments["spellings"] = {contexts[1]: _CAUSES}, "the question that a value means"
    if answers:
        fields["answers"], comments["answers"] = answers, "how the label names the endings, in their order"
    else:
        comments["label"] = "the number of the right ending, from 0"
    return Guess("choose", fields, comments, None, read)


def _choice_label(columns: Mapping[str, Column], endings: Collection[str]) -> str:
    others = [name for name in columns if name not in endings and columns[name].kind in ("text", "number")]
    words = (("label", "labels", "gold"), ("answer", "correct", "target", "key"))
    alone = [name for known in words for name in others if name.lower() in known]
    return next(chain(alone, (name for known in words for name in others if words_of(name) & {*known})), "")


def _contexts(columns: Mapping[str, Column], taken: Collection[str]) -> list[str]:
    """The context, and the question before the endings if there is one."""
    texts = [name for name in columns if name not in taken and columns[name].kind == "text" and not is_id(name)]
    context = next((name for known in _CONTEXTS for name in texts if name.lower() == known), "")
    question = next((name for known in _QUESTIONS for name in texts if name.lower() == known), "")
    if not context and not question:
        return sorted(texts, key=lambda name: -columns[name].characters)[:1]
    return [name for name in (context, question) if name]


def _answers(path: str, label: Column, endings: Sequence[str], count: int) -> list[str]:
    """How a label names the endings; empty if by numbers from 0.

    Raises:
        UserError: it names them in another way.
    """
    values = {value for value in label.values if value != NO_LABEL}
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]
    ways = [[str(i) for i in range(count)], [str(i + 1) for i in range(count)], [*letters], [*letters.lower()]]
    ways += [list(endings)] if len(endings) > 1 else []
    for way in ways:
        if values <= {*way}:
            return [] if way == ways[0] else way
    shown = listed([visible(value) for value in sorted(values)], 5)
    raise UserError(f"the column '{label.name}' names endings by {shown}", where=path,
                    hint="write the number of the right ending, from 0")  # fmt: skip


# --- texts with labels


def _classify(path: str, read: Table, columns: Mapping[str, Column], named: Named) -> Guess:
    label = named.label or _label(path, columns, named.texts)
    texts = list(named.texts) or _texts(columns, label)
    if not label and len(read.columns) == 1 and not read.header:
        raise UserError("has a single column, so no labels", where=path, hint="rename raw text to .txt")
    if not label and (len(columns) > 1 or not read.header):
        raise UserError("has no column that looks like labels", where=path,
                        hint=f"name it with --label; its columns are {listed([*columns], 20)}")  # fmt: skip
    if not texts:
        raise UserError("has no column with texts", where=path,
                        hint=f"name it with --text; its columns are {listed([*columns], 20)}")  # fmt: skip
    if not label:
        return Guess("mask", {"text": texts[0]}, {"format": "raw text, for masked language modelling"}, None, read)
    distinct, kind = len(columns[label].values), columns[label].kind
    if kind in ("list", "object"):
        raise UserError(f"has several labels a row in '{label}'", where=path, hint="--label names a column with one")
    decimals = any(re.fullmatch(r"-?\d+[.,]\d*[1-9]\d*", value) for value in columns[label].values)
    if distinct > (MOST_SCORES if decimals else MOST_LABELS):
        hint = "--label names another column" if len(columns) > 2 else "write classes, such as low and high"
        raise UserError(f"the column '{label}' has {distinct:,} values, which are no labels", where=path, hint=hint)
    others = [name for name in columns if name not in (*texts, label)]
    few = [name for name in others if columns[name].repeats and not is_id(name)]
    comments = {
        "texts": "two columns make a pair" + (f"; other columns: {listed(others, 8)}" if others else ""),
        "label": "the column of the labels" + (f", or is it {listed(few, 3)}?" if few and not named.label else ""),
    }
    if read.header:
        classes = tuple(label_names(path, label)) if suffix(path) == ".parquet" else ()
        return Guess("classify", {"texts": texts, "label": label}, comments, None, read, classes)
    names = {**{text: f"text{i}" if len(texts) > 1 else "text" for i, text in enumerate(texts, 1)}, label: "label"}
    fields = {"texts": [names[text] for text in texts], "label": "label"}
    own = tuple(names.get(name, f"column{name}") for name in read.columns)
    comments["texts"] = "the file has no header; `columns` names its columns in order"
    return Guess("classify", fields, comments, own, _renamed(read, own))


def _plain(path: str) -> Guess:
    """The guess for a file with a text a line."""
    if next(token_lines(path, 10), None) is None:
        raise DataError("is empty", where=path)
    first = [row for row in token_lines(path, 10) if row]
    with_tabs = [row for row in first if len(row) > 1]
    if with_tabs and _separated(path):
        raise UserError("has tabs between its columns", where=path, hint="rename it to .tsv")
    return Guess("mask", {}, {"format": "raw text, for masked language modelling"})


def _separated(path: str) -> bool:
    return any("\t" in text for (_, text), _ in zip(lines(path, lambda *_: None), range(10), strict=False))


def _label(path: str, columns: Mapping[str, Column], texts: Collection[str]) -> str:
    """The column of the labels: by its name, else by its few values; empty if none looks so."""
    usable = [column for name, column in columns.items() if name not in texts and not is_id(name)]
    named = [column.name for column in usable if is_label(column.name) and column.kind in ("text", "number")]
    several = [name for name in named if len(columns[name].values) > 1]
    best = [name for name in several if words_of(name) & {"label", "labels", "gold", "class"}]
    if several:
        return (best or several)[0]
    repeats = [column.name for column in usable if column.repeats]
    if len(repeats) > 1 and repeats[-1] != [*columns][-1]:
        raise UserError(
            f"may have its labels in {' or '.join(repeats)}", where=path, hint="name the column with --label"
        )
    if repeats or named or len(columns) != 2 or texts:
        return (repeats[-1:] + named + [""])[0]
    short, long = sorted(usable, key=lambda column: column.characters / max(1, column.filled))[:1], usable
    return short[0].name if short and len(long) == 2 and short[0].blanks == 0 else ""


def _texts(columns: Mapping[str, Column], label: str) -> list[str]:
    """The columns of the texts: a usual pair, one with a usual name, or the one with the longest texts."""
    others = {name.lower(): name for name, column in columns.items()
              if name != label and column.kind == "text" and not is_id(name)}  # fmt: skip
    for pair in _PAIRS:
        if {*pair} <= others.keys():
            return [others[name] for name in pair]
    if not label and len(others) > 1:
        return []
    usual = [name for name in _USUAL if name in others]
    longest = sorted(others.values(), key=lambda name: -columns[name].characters)
    if not usual and len(longest) == 2 and _are_pair(columns[longest[0]], columns[longest[1]]):
        return sorted(longest, key=[*columns].index)
    return [others[usual[0]]] if usual else longest[:1]


def _are_pair(longer: Column, shorter: Column) -> bool:
    """Whether two columns of texts, with numbers as names or names that differ in the last letter, make a pair."""
    alike = longer.name[:-1] == shorter.name[:-1]
    return alike and shorter.blanks >= shorter.filled and longer.characters <= 4 * shorter.characters


def _first(columns: Mapping[str, Column], names: Sequence[str]) -> str:
    """The first of some names that is a column; empty if none is."""
    return next((name for name in names if name in columns), "")


def columns_like(path: str, main: Guess) -> tuple[dict[str, str] | tuple[str, ...] | None, Table | None]:
    """How another file of a task calls the columns of the file `main`, and what they hold.

    Raises:
        UserError: it has other columns.
    """
    if suffix(path) not in (*OBJECTS, ".csv", ".tsv") or (main.format == "tag" and suffix(path) not in OBJECTS):
        return (main.columns if isinstance(main.columns, tuple) and suffix(path) != ".conllu" else None), None
    if main.format in ("tag", "span"):
        names = main.columns if isinstance(main.columns, dict) else {}
        inputs = ("words",) if main.format == "tag" else ("context", "question")
        same = {names.get(name, name) for name in inputs} <= table(path).columns.keys()
        return main.columns if same else guess(path, Named()).columns, None
    if main.format == "mask":
        return None, None
    label = main.fields["label"]
    read = table(path, (*main.inputs, label))
    if read.header and {*main.inputs} <= read.columns.keys() and (
        label in read.columns or not any(map(is_label, read.columns))
    ):  # fmt: skip
        return None, read
    if not read.header and isinstance(main.columns, tuple) and len(read.columns) <= len(main.columns):
        return main.columns, _renamed(read, main.columns)
    own = guess(path, Named())
    theirs, ours = [*own.inputs, own.fields.get("label", "")], [*main.inputs, label]
    if own.format != main.format or len(theirs) != len(ours):
        raise UserError(f"has the columns {listed([*read.columns], 20)}; the training data have {', '.join(ours)}",
                        where=path, hint="give the files the same columns")  # fmt: skip
    names = dict(zip(theirs, ours, strict=True))
    if isinstance(own.columns, tuple):
        columns = tuple(names.get(name, name) for name in own.columns)
        return columns, _renamed(read, columns)
    mapping = {names[name]: name for name in theirs if names[name] != name}
    return mapping, Table({names.get(name, name): column for name, column in read.columns.items()}, True, read.rows)


def _renamed(read: Table, names: Sequence[str]) -> Table:
    """A table without a header, with names for its columns."""
    columns = (replace(column, name=name) for name, column in zip(names, read.columns.values(), strict=False))
    return Table({column.name: column for column in columns}, False, read.rows)


def label_values(columns: Sequence[Column]) -> Iterator[tuple[str, int]]:
    """Each label of some files with its number of rows, without hidden ones and headers between the rows."""
    for column in columns:
        if {*column.values} != {NO_LABEL}:
            for value, number in column.values.items():
                is_header = value == column.name and len(column.values) > 2 and 5 * number <= column.filled
                if not is_header:
                    yield value, number
