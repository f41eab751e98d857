"""Converts wikitext to plain text: the visible prose of an article, one paragraph per line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, HTMLEntity, Tag, Text, Wikilink
from mwparserfromhell.parser import ParserError

from xstilts.languages import well_formed

MEDIA = frozenset({"file", "image", "media", "category"})
"""Prefixes of links that show no text, in any wiki; a dump names more in the wiki's language."""
HIDDEN_TAGS = frozenset(
    "ref references table gallery math chem ce score timeline graph hiero imagemap mapframe maplink syntaxhighlight "
    "source pre code style templatestyles inputbox categorytree section templatedata".split()
)
"""Tags that are removed with their contents."""
BLOCK_TAGS = frozenset("br p div blockquote center li dd dt hr poem".split())
"""Tags that begin and end a line; wikitext's list items are on lines of their own already."""

_STYLE = re.compile("'{2,}")
_SWITCH = re.compile(r"__\w+?__")
_VARIANT = re.compile(r"-\{(?:[^{}|]*\|)?(?:[^{}:;|]*:)?([^{};|]*)[^{}]*\}-")
"""Variants of Chinese, `-{zh-hans:...; zh-hant:...}-`; the first is used."""
_EMPTY_BRACKETS = re.compile(r"[(（\[]\s*(?:[,;:،、；，]\s*)*[)）\]]")
"""Brackets that are empty after their template is removed."""
_LEFTOVER_MARKUP = re.compile(r"\{\{|\}\}|\{\||\|\}|\[\[|\]\]|^\s*[|!]")
"""Markup that was never closed, or a table row outside a table."""


def plain(markup: str, media: frozenset[str] = MEDIA) -> str:
    """The prose of an article; empty if the parser fails.

    Removes templates, tables, references, headings, comments, files, categories and links to other languages. A link
    is replaced by its visible text. Lines with unclosed markup are dropped.

    Args:
        markup: wikitext.
        media: prefixes of links that show no text, in lower case.

    >>> plain("'''Nairobi''' ni [[Kenya|mji]] mkuu.<ref>Hapa</ref> {{x}}")
    'Nairobi ni mji mkuu. '
    """
    try:
        code = mwparserfromhell.parse(markup, skip_style_tags=True)
    except ParserError:
        return ""
    text = _EMPTY_BRACKETS.sub("", _VARIANT.sub(r"\1", _SWITCH.sub("", _STYLE.sub("", _prose(code, media)))))
    return "\n".join(line for line in text.split("\n") if not _LEFTOVER_MARKUP.search(line))


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
    inner = _prose(tag.contents, media) if tag.contents else ""
    return f"\n{inner}\n" if name in BLOCK_TAGS and not tag.wiki_markup else inner


def _entity(entity: HTMLEntity, _: frozenset[str]) -> str:
    shown = str(entity.normalize())
    return "" if unicodedata.category(shown[0]) in ("Cs", "Cc") else shown  # drop surrogates and control codes


_SHOWN: dict[type, Callable[[Any, frozenset[str]], str]] = {
    Text: lambda node, _: str(node.value),
    Wikilink: _link,
    ExternalLink: lambda node, media: _prose(node.title, media) if node.title and node.brackets else "",
    Tag: _tag,
    HTMLEntity: _entity,
}
"""The visible text of each kind of node; other kinds have none."""
