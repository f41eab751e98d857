"""Reads sentences from files with one token per line: CoNLL-U, as XTREME does for UDPOS, and token-tag files.

Source: XTREME's `third_party/ud-conversion-tools` (fused tokens), `utils_preprocess.py` (`udpos_preprocess`,
`panx_preprocess`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, pairwise
from typing import NamedTuple, TypeAlias

from xstilts.data.lines import OnWarning
from xstilts.errors import DataError, counted, nearest

LONG_SENTENCE = 1000
"""Words of a sentence, beyond which its file may lack blank lines."""
Columns: TypeAlias = tuple[str, ...] | dict[str, str] | None
TokenLine: TypeAlias = tuple[int, list[str]]
"""A line's number and its cells."""
WORD_HEADS = frozenset("word words token tokens form text".split())
TAG_HEADS = frozenset(
    "tag tags label labels pos postag postags upos xpos ner nertag nertags ne entity bio biotag iob iobtag".split()
)
"""The columns of words and of tags in headers, as `_plain` spells them."""

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
UPOS = frozenset((*DEFAULT_PRECEDENCE, "SYM"))
"""The parts of speech of Universal Dependencies."""


class Tokens(NamedTuple):
    """One sentence: the number of its first line, its words, and their tags or None."""

    line: int
    words: list[str]
    tags: list[str] | None


def sentences(lines: Iterable[tuple[int, str]], language: str, file: str) -> Iterator[Tokens]:
    """Yield the sentences of a CoNLL-U file.

    A multiword token becomes one word with the tag of its highest part. A sentence whose UPOS are all `_` has no tags.
    Drops empty nodes, and sentences in which at most one word is not `_` (treebanks published without their text).

    Args:
        lines: line number and text without its line end.
        language: selects the precedence of tags for fused tokens.
        file: for error messages.

    Raises:
        DataError: a line does not have 10 columns, a multiword token lacks a part, tokens do not count 1, 2, 3, or only
            some have a UPOS.
    """
    block: list[tuple[int, list[str]]] = []
    for number, text in lines:
        if text.strip():
            if not text.startswith("#"):
                block.append((number, _columns(text, f"{file}:{number}")))
            elif text.startswith("# global.columns") and "ID FORM LEMMA UPOS" not in text:
                hint = "rename it to .tsv; `columns: [number, words, tags]` says which column is which"
                raise DataError("has the columns of CoNLL-U Plus, not of CoNLL-U", where=f"{file}:{number}", hint=hint)
        elif block:
            yield from _sentence(block, language, file)
            block = []
    if block:
        yield from _sentence(block, language, file)


def tagged(
    read: Callable[[], Iterable[tuple[int, str]]], language: str, file: str, *, tabs: bool, columns: Columns = None,
    note: OnWarning = lambda *_: None,
) -> Iterator[Tokens]:  # fmt: skip
    """Yield the sentences of a file with one token per line, and blank lines between sentences.

    `columns` or a header (`Word TAB Tag`) names the words and the tags; else the first column has the words, the last
    the tags. If every token of the first sentence begins with the language code and a colon, as in raw PAN-X, the
    prefix is removed from all tokens, and tokens without a colon are dropped (as XTREME does).

    Args:
        read: gives line numbers and texts without line ends; called twice if a line begins with `# `.
        language: the code that may prefix tokens.
        file: for error messages.
        tabs: whether only tabs separate columns; otherwise spaces do, too, in lines without a tab.
        columns: the names of the columns in order, or the header's names of `words` and `tags`.
        note: receives each comment that has as many columns as the tokens.

    Raises:
        DataError: the number of columns differs between lines, or it is not clear which column has the words.
    """
    blocks = _blocks(read, file, tabs=tabs, note=note)
    first, second = next(blocks, []), next(blocks, [])
    if not first:
        return
    where = f"{file}:{first[0][0]}"
    if re.match(r'\{"\w+":', "".join(first[0][1])):
        raise DataError("has JSON objects", where=where, hint="rename it to .jsonl")
    header, word, tag = _layout(first[0][1], columns, where)
    if columns is None and not header:
        _check_words([first, second], where)
    prefixed, head = None, first[0][1] if header else None
    for block in chain([first, second], blocks):
        block = block[1:] if block and block[0][1] == head else block
        if prefixed is None and block:
            prefixed = all(cells[word].startswith(f"{language}:") for _, cells in block)
        if prefixed:
            block = [line for line in block if ":" in line[1][word]]
        words = [cells[word].strip(" ") for _, cells in block]
        tags = None if tag is None else [cells[tag].strip(" ") for _, cells in block]
        if block:
            yield Tokens(block[0][0], [_without_prefix(one) for one in words] if prefixed else words, tags)


def _blocks(
    read: Callable[[], Iterable[tuple[int, str]]], file: str, *, tabs: bool, note: OnWarning
) -> Iterator[list[TokenLine]]:
    """Yield the lines of each sentence, which all have as many columns."""
    start, width = None, 0
    block: list[TokenLine] = []
    for line in chain(_without_comments(read, file, tabs=tabs, note=note), [(0, list[str]())]):
        cells = line[1]
        if cells and not start:
            start, width = line, len(cells)
        if cells and len(cells) == width:
            block.append(line)
        elif start and "".join(cells).strip():
            raise _another_width(line, start, file)
        elif block:
            if len(block) > LONG_SENTENCE:
                where = f"{file}:{block[0][0]}"
                note(f"begins a sentence of more than {LONG_SENTENCE:,} words; are blank lines missing?", where)
            yield block
            block = []


def _another_width(line: TokenLine, start: TokenLine, file: str) -> DataError:
    """The error for a line with more or fewer columns than the first line; of the two, `#` may begin a comment."""
    hint = ""
    if hashed := [one for one in (line, start) if one[1][0].startswith("#")]:
        line, start = (start, line) if hashed[0] is start else (line, start)
        hint = "a comment begins with '# ' and stands before a sentence"
    return DataError(
        f"has {counted(len(line[1]), 'column')}, line {start[0]} has {len(start[1])}",
        where=f"{file}:{line[0]}",
        hint=hint,
    )


def _without_comments(
    read: Callable[[], Iterable[tuple[int, str]]], file: str, *, tabs: bool, note: OnWarning
) -> Iterator[TokenLine]:
    """Yield the number and cells of each line but comments.

    A comment begins with `# ` or `#` and a tab, and stands before a sentence. But a line with as many columns as the
    others is a token if it begins with `#` and a tab, or if its last cell is that of another line, too.
    """
    width, last_cells, tabbed = 0, set[str](), tabs
    for number, text, hashed in _token_lines(read()):
        if hashed and not width:
            for _, other, comment in _token_lines(read()):
                if other and not comment:
                    width, tabbed = width or len(_cells(other, tabs)), tabbed or "\t" in other
                    last_cells.add(_cells(other, tabs)[-1])
            width = width or -1
        cells = _cells(text, tabbed if hashed else tabs)
        if not hashed or (len(cells) == width and (cells[-1] in {"#", *last_cells} or text[1] == "\t")):
            yield number, cells
        elif len(cells) == width:
            note("is read as a comment, because it begins with '# ' and does not end in a tag", f"{file}:{number}")


def _token_lines(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str, bool]]:
    """Yield each line's number and text, and whether it begins with `# ` before the first token of a sentence.

    A blank line and -DOCSTART- have no text.
    """
    begun = seen = False
    for number, whole in lines:
        text = whole.rstrip(" \t")
        if not text or text.startswith("-DOCSTART-"):
            begun = False
            yield number, "", False
        else:
            hashed = not begun and text[0] == "#" and text[1:2] in ("", " ", "\t")
            header = not seen and any(_plain(cell) in WORD_HEADS for cell in text.split("\t"))
            begun, seen = not hashed and not header, seen or not hashed
            yield number, text, hashed


def _cells(text: str, tabs: bool) -> list[str]:
    """The cells of a line, which blanks part only where there is no tab; none of a blank line."""
    return (text.split("\t") if tabs or "\t" in text else re.split(" +", text)) if text else []


def _layout(row: list[str], columns: Columns, where: str) -> tuple[bool, int, int | None]:
    """Whether the first row is a header, the column of the words, and that of the tags (None without tags)."""
    if isinstance(columns, tuple):
        names = list(columns[: len(row)])
        _check_names(columns, where)
        if len(row) > len(columns) or "words" not in names:
            raise DataError(f"has {len(row)} columns, `columns` names {', '.join(columns)}", where=where)
        return False, names.index("words"), names.index("tags") if "tags" in names else None
    if columns is None:
        found = [[cell for cell in row if _plain(cell) in known] for known in (WORD_HEADS, TAG_HEADS)]
        if not all(found):
            return False, 0, len(row) - 1 or None
        if twice := [cells for cells in found if len(cells) > 1]:
            message = f"the header names {' and '.join(twice[0])}, which may both be meant"
            raise DataError(message, where=where, hint="such as `columns: {words: Word, tags: Tag}`")
        columns = {"words": found[0][0], "tags": found[1][0]}
    else:
        _check_names(tuple(columns), where)
    word, tag = columns.get("words", "words"), columns.get("tags", "tags")
    for name in (word, tag) if "tags" in columns else (word,):
        if name not in row:
            raise DataError(f"the header has no column '{name}'", where=where, hint=nearest(name, row, "it has"))
    return True, row.index(word), row.index(tag) if tag in row else None


def _check_names(columns: tuple[str, ...], where: str) -> None:
    """Reject a list of columns that calls the words or the tags by another name."""
    for ours, known in (("words", WORD_HEADS), ("tags", TAG_HEADS)):
        close = [name for name in columns if _plain(name) in known]
        if ours not in columns and close:
            raise DataError(f"`columns` has '{close[0]}', but no '{ours}'", where=where, hint=f"call it `{ours}`")


def _plain(cell: str) -> str:
    """The small letters of a header's cell: `ner_tags` and `NER tags` are both `nertags`."""
    return re.sub("[^a-z]", "", cell.lower())


def _check_words(blocks: list[list[TokenLine]], where: str) -> None:
    """Reject a file in whose first sentences the first column has no words, but numbers, tags or one value."""
    sentences = [[cells[0] for _, cells in block] for block in blocks if block]
    cells = [cell for sentence in sentences for cell in sentence]
    if _numbered(sentences):
        what = "numbers the tokens"
    elif len(blocks[0][0][1]) > 1 and len(cells) > 5 and all(len(set(sentence)) == 1 for sentence in sentences):
        what = "has one value for all tokens of a sentence"
    elif len(blocks[0][0][1]) == 1 and len(cells) > 2 and all(re.fullmatch(".+[,;|].+", cell) for cell in cells):
        raise DataError("has a word and its tag without a tab between", where=where)
    elif len(cells) > 2 and (_are_tags(cells) or UPOS.issuperset(cells)):
        what = "has tags"
    else:
        return
    hint = "`columns: [number, words, tags]` says which column is which"
    if len(blocks[0][0][1]) == COLUMNS:
        hint += "; CoNLL-U has the suffix .conllu"
    raise DataError(f"the first column {what}", where=where, hint=hint)


def _are_tags(cells: list[str]) -> bool:
    return "O" in cells and all(re.fullmatch("O|[BI]-.+", cell) for cell in cells)


def _numbered(sentences: list[list[str]]) -> bool:
    """Whether cells are the numbers of tokens (1, 2-3, 8.1), or of sentences."""
    if not all(re.fullmatch(r"\d{1,9}([-.]\d+)*", cell) for sentence in sentences for cell in sentence):
        return False
    whole = [[int(cell) for cell in sentence if cell.isdecimal()] for sentence in sentences]
    steps = [{b - a for a, b in pairwise(numbers)} for numbers in whole]
    ranges = all("-" in cell for sentence in sentences for cell in sentence)  # WebAnno's 1-1, 1-2
    return all(step <= {0, 1} for step in steps) and (any(steps) or ranges)


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
            _check_number(cells[0], forms, f"{file}:{number}")
            forms[cells[0]], tags[cells[0]] = cells[1], cells[3].strip()
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
        forms = {number: word for number, word in forms.items() if number == highest or number not in parts}
        forms[highest] = form
    words = [form.strip() for form in forms.values()]
    unknown = words.count("_")
    if unknown == 0 or unknown < len(words) - 1:
        clean = [word.replace("\u200c", "").replace(" ", "") for word in words]
        labelled = set(tags.values()) != {"_"}
        absent = "_" in tags.values() and [n for n, word in zip(forms, words, strict=True) if tags[n] == "_" != word]
        if labelled and absent:
            line = next(line for line, cells in block if cells[0] == absent[0])
            raise DataError(f"token {absent[0]} has no UPOS (_)", where=f"{file}:{line}")
        yield Tokens(block[0][0], clean, [tags[number] for number in forms] if labelled else None)


def _check_number(token: str, forms: Collection[str], where: str) -> None:
    """Reject a token whose number does not follow the last one's."""
    if token != str(len(forms) + 1):
        message = "comes again" if token in forms else f"comes after {len(forms)}"
        raise DataError(f"token {token} {message}", where=where, hint="is a blank line missing?")


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
