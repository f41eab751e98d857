"""Converts wikitext to plain text: the visible prose of an article, one paragraph per line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import mwparserfromhell
from mwparserfromhell.nodes import Argument, ExternalLink, HTMLEntity, Tag, Template, Text, Wikilink
from mwparserfromhell.parser import ParserError

from xstilts.languages import well_formed

MEDIA = frozenset({"file", "image", "media", "category"})
"""Prefixes of links that show no text, in any wiki; a dump names more in the wiki's language."""
HIDDEN_TAGS = frozenset(
    "ref references table gallery timeline graph imagemap mapframe maplink source pre style templatestyles inputbox "
    "categorytree section templatedata includeonly".split()
)
"""Tags that are removed with their contents."""
UNREADABLE_TAGS = frozenset("math chem ce score hiero syntaxhighlight code".split())
"""Tags that show something that is no text, often within a sentence."""
BLOCK_TAGS = frozenset("br p div blockquote center li dd dt hr poem".split())
"""Tags that begin and end a line; wikitext's list items are on lines of their own already."""

HOLE = "\ufffc"
"""Unicode's object replacement character, for what a reader sees and `plain` cannot write."""
SIGNS = {
    "!": "|", "=": "=", "'": "'", "'s": "'s", "nbsp": "\xa0", "ndash": "–", "mdash": "—", "snd": " – ", "spnd": " – ",
    "spaced ndash": " – ", "·": " · ",
}  # fmt: skip
"""Templates that stand for a few characters."""
NOTES = frozenset(("efn", "refn", "sfn", "r", "rp", "cn", "fact", "citation needed", "#tag:ref"))
"""Templates that show a footnote's mark; others are known by their place."""
FIRST_SHOWN = frozenset("abbr chem chem2 ill interlanguage link le lien nihongo tsl 仮リンク".split())
LAST_SHOWN = frozenset(
    "bigger lang langue langx lnobr nobr nobreak nobold nowrap small smaller smallcaps sc sub sup transl "
    "transliteration".split()
)
"""Templates that show their first or last argument; so do `link-...` and `lang-...`."""
FUNCTIONS = frozenset(("formatnum", "lc", "uc", "lcfirst", "ucfirst"))
"""Parser functions that show what follows the colon."""
QUANTITIES = {"convert": 99, "cvt": 99, "nombre": 2, "num": 2, "unité": 2, "val": 1}
"""Templates that show a number with its unit, and how many arguments these may be: more are powers or other units."""
CHANGED = frozenset("e end err p s up upl".split())
"""Arguments of such a template that change its number or its unit: powers, errors, per second."""

_LITERAL = "\0"
"""An apostrophe that is no markup; no wikitext has this character."""
_BREAK = "\r"
"""The end of a line that wikitext does not end; no wikitext has this character."""
_MARKS = re.compile("('{2,})")
_SUPERSCRIPT = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻")
_SWITCH = re.compile(r"__\w+?__")
_VARIANT = re.compile(r"-\{(?:[HT-]\|[^{}]*|(?:[^{}|]*\|)?(?:[^{}:;|]*:)?([^{};|]*)[^{}]*)\}-")
"""Variants of Chinese, `-{zh-hans:...; zh-hant:...}-`; the first is used. `H` and `T` show nothing."""
_BRACKETS = re.compile(
    rf"[^\S\n]*(?:[(（\[]\s*(?:[,;:،、；，]\s*)*[)）\]]|[(（\[][^()（）\[\]\n]*{HOLE}[^()（）\[\]\n]*[)）\]])"
)
"""Brackets without words or with a hole; the sentence is whole without them."""
_NOTE = re.compile(
    rf"(?<=[.!?。！？]){HOLE}+|(?:(?<=[^\W\d_\u0e00-\u0eff\u3040-\u9fff])|(?<=[,;)”»\"])){HOLE}+(?=[\s.,;:!?)]|$)"
)
"""Holes of footnotes: directly after a sentence, or after a word and before a space or stop."""
_LEFTOVER_MARKUP = re.compile(r"\{\{|\}\}|\{\||\|\}|\[\[|\]\]|<!--|</?ref\b|^\s*[|!]")
"""Markup that was never closed, or a table row outside a table."""


def plain(markup: str, media: frozenset[str] = MEDIA) -> str:
    """The prose of an article; empty if the parser fails.

    Removes tables, references, headings, comments, files, categories and links to other languages. A link is replaced
    by its visible text, and so are common templates. Formulas and other templates leave a `HOLE`, except in brackets,
    which are removed with it, and where footnotes stand. Lines with unclosed markup are dropped.

    Args:
        markup: wikitext.
        media: prefixes of links that show no text, in lower case.

    >>> plain("'''Nairobi''' ({{IPA|sw}}) ni [[Kenya|mji]] wa {{lang|sw|watu}} {{formatnum:4397073}}.<ref>Hapa</ref>")
    'Nairobi ni mji wa watu 4397073.'
    """
    try:
        code = mwparserfromhell.parse(markup, skip_style_tags=True)
    except ParserError:
        return ""
    text = "\n".join(map(_without_quotes, _prose(code, media).split("\n"))).replace(_BREAK, "\n")
    text = _NOTE.sub("", _BRACKETS.sub("", _VARIANT.sub(r"\1", _SWITCH.sub("", text))))
    return "\n".join(line for line in text.split("\n") if not _LEFTOVER_MARKUP.search(line))


def _without_quotes(line: str) -> str:
    """The line without marks of bold and italics, as MediaWiki's `doQuotes` finds them.

    Of four apostrophes the first is text, of more than five all but the last five. Where bold and italics do not nest,
    three are an apostrophe and italics: one of them by MediaWiki's rule, or else all that follow a letter.

    >>> [_without_quotes(x) for x in ("l''''armonium'''", "l'''Eneide''", "dell'''Odissea'' e dell'''Iliade''")]
    ["l'armonium", "l'Eneide", "dell'Odissea e dell'Iliade"]
    """
    if "''" not in line:
        return line.replace(_LITERAL, "'")
    parts = _MARKS.split(line)
    texts, lengths = parts[::2], [len(mark) for mark in parts[1::2]]
    marks = [3 if length == 4 else min(length, 5) for length in lengths]
    texts = [text + "'" * (length - mark) for text, length, mark in zip(texts, [*lengths, 0], [*marks, 0], strict=True)]
    bold = [i for i, mark in enumerate(marks) if mark == 3]
    elided: list[int] = []
    if not _nest(marks):
        both = marks.count(5)
        if bold and (len(bold) + both) % 2 and (marks.count(2) + both) % 2:
            elided = [_unbalanced(bold, texts)]
        else:
            after_letter = [i for i in bold if texts[i][-1:].isalpha()]
            if _nest([2 if i in after_letter else mark for i, mark in enumerate(marks)]):
                elided = after_letter
    return "".join(text + "'" * (i in elided) for i, text in enumerate(texts)).replace(_LITERAL, "'")


def _unbalanced(bold: Sequence[int], texts: Sequence[str]) -> int:
    """Which mark of three is an apostrophe and italics: the first after a single letter, after a word, or at all."""
    after_word = [i for i in bold if not texts[i].endswith(" ")]
    return next((i for i in after_word if texts[i][-2:-1] == " "), [*after_word, *bold][0])


def _nest(marks: Sequence[int]) -> bool:
    """Whether marks of italics (2), bold (3) and both (5) open and close as brackets do."""
    opened: list[int] = []
    for mark in marks:
        if opened == [5]:
            opened = [] if mark == 5 else [5 - mark]
        elif mark == 5:
            opened = [5 - opened[0]] if len(opened) == 1 else [] if opened else [5]
        elif opened and opened[-1] == mark:
            opened.pop()
        elif mark in opened:
            return False
        else:
            opened.append(mark)
    return not opened


def _prose(code: Any, media: frozenset[str]) -> str:
    return "".join(_SHOWN[type(node)](node, media) for node in code.nodes if type(node) in _SHOWN)


def _link(link: Wikilink, media: frozenset[str]) -> str:
    title = str(link.title)
    prefix, colon, _ = title.partition(":")
    if colon and (prefix.strip().casefold() in media or well_formed(prefix)):
        return ""
    shown = title.lstrip(":") if link.text is None else _prose(link.text, media)
    return "" if "|" in shown else shown  # with "|" it is a file with an unknown prefix


def _tag(tag: Tag, media: frozenset[str]) -> str:
    name = str(tag.tag).strip().lower()
    if name in HIDDEN_TAGS:
        return ""
    if name in UNREADABLE_TAGS:
        return HOLE
    inner = _prose(tag.contents, media) if tag.contents else ""
    if name == "nowiki":
        return inner.replace("'", _LITERAL)
    if name == "sup" and not inner.strip("0123456789+-−"):
        return inner.translate(_SUPERSCRIPT)
    if name == "sup" and any(map(str.isdigit, inner)):  # 10<sup>2.5</sup> is not 102.5
        return HOLE
    return f"{_BREAK}{inner}{_BREAK}" if name in BLOCK_TAGS and not tag.wiki_markup else inner


def _entity(entity: HTMLEntity, _: frozenset[str]) -> str:
    shown = str(entity.normalize())
    if unicodedata.category(shown[0]) in ("Cs", "Cc"):  # drop surrogates and control codes
        return ""
    return shown.replace("'", _LITERAL)


def _template(template: Template, media: frozenset[str]) -> str:
    """The text of a known template, the end of a line for a box of several lines, a hole for others."""
    written = str(template.name).strip()
    name, (function, colon, argument) = written.replace("_", " ").casefold(), written.partition(":")
    if name in NOTES:
        return ""
    if name in SIGNS:
        return SIGNS[name].replace("'", _LITERAL)
    if colon and function.strip().casefold() in FUNCTIONS and "{" not in argument:
        return argument.strip()
    if "\n" in str(template):
        return _BREAK
    shown = [_prose(x.value, media).strip() for x in template.params if str(x.name).strip().isdigit()]
    if not any(shown):
        return HOLE
    if name in FIRST_SHOWN or name.startswith("link-"):
        return shown[0]
    if name in LAST_SHOWN or name.startswith("lang-"):
        return shown[-1]
    named = {str(x.name).strip(): _prose(x.value, media).strip() for x in template.params}
    power = any(re.match(r"e\d", word) for word in shown)  # convert's e6km2 is a million square kilometres
    if len(shown) > QUANTITIES.get(name, 0) or power or not CHANGED.isdisjoint(named):
        return HOLE
    return _quantity([*shown, named.get("u") or named.get("ul") or ""])


def _quantity(words: Sequence[str]) -> str:
    """The number and its unit, or several such as `6 ft 2 in`, without what they are converted to.

    >>> [_quantity(x.split()) for x in ("5 km mi", "5 - 10 km", "6 ft 2 in m", "1 km 0")]
    ['5 km', '5–10 km', '6 ft 2 in', '1 km']
    """
    shown: list[str] = []
    for word in filter(None, words):
        if shown and not _is_number(word) and not _is_number(shown[-1]):
            break
        shown.append(word)
    if len(shown) > 2 and _is_number(shown[-1]):
        shown.pop()  # how many digits to round to
    return " ".join(shown).replace(" - ", "–").replace(" – ", "–")


def _is_number(word: str) -> bool:
    return re.match(r"[-+−]?\d", word) is not None


_SHOWN: dict[type, Callable[[Any, frozenset[str]], str]] = {
    Text: lambda node, _: str(node.value),
    Wikilink: _link,
    ExternalLink: lambda node, media: _prose(node.title, media) if node.title and node.brackets else "",
    Tag: _tag,
    HTMLEntity: _entity,
    Template: _template,
    Argument: lambda _, __: HOLE,
}
"""The visible text of each kind of node; other kinds have none."""
