"""Wikitext to plain text: what a reader of the article's prose sees, paragraphs a line each."""

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
"""Prefixes of links that show no text, in any wiki; its dump names its own beside them."""
DROPPED = frozenset(
    "ref references table gallery math chem ce score timeline graph hiero imagemap mapframe maplink syntaxhighlight "
    "source pre code style templatestyles inputbox categorytree section templatedata".split()
)
"""Tags that go with what is in them."""
BLOCKS = frozenset("br p div blockquote center li dd dt hr poem".split())
"""Tags that begin and end a line; a list's item does so anyway."""

_STYLE = re.compile("'{2,}")
_SWITCH = re.compile(r"__\w+?__")
_VARIANT = re.compile(r"-\{(?:[^{}|]*\|)?(?:[^{}:;|]*:)?([^{};|]*)[^{}]*\}-")
"""Chinese in several scripts, `-{zh-hans:...; zh-hant:...}-`; the first is taken."""
_HOLLOW = re.compile(r"[(（\[]\s*(?:[,;:،、；，]\s*)*[)）\]]")
"""Brackets that have lost a template."""
_LEFT_OVER = re.compile(r"\{\{|\}\}|\{\||\|\}|\[\[|\]\]|^\s*[|!]")
"""Markup that was never closed, or a row of a table without its beginning."""


def plain(markup: str, media: frozenset[str] = MEDIA) -> str:
    """The prose of an article.

    Templates, tables, references, headings, comments, files, categories and links to other languages' articles go with
    all that is in them; a link leaves what it shows. A line with markup that was never closed is dropped, and an
    article that the parser gives up is empty.

    Args:
        markup: wikitext.
        media: prefixes of links that show no text, in small letters.

    >>> plain("'''Nairobi''' ni [[Kenya|mji]] mkuu.<ref>Hapa</ref> {{x}}")
    'Nairobi ni mji mkuu. '
    """
    try:
        code = mwparserfromhell.parse(markup, skip_style_tags=True)
    except ParserError:
        return ""
    text = _HOLLOW.sub("", _VARIANT.sub(r"\1", _SWITCH.sub("", _STYLE.sub("", _prose(code, media)))))
    return "\n".join(line for line in text.split("\n") if not _LEFT_OVER.search(line))


def _prose(code: Any, media: frozenset[str]) -> str:
    return "".join(_SHOWN[type(node)](node, media) for node in code.nodes if type(node) in _SHOWN)


def _link(link: Wikilink, media: frozenset[str]) -> str:
    title = str(link.title)
    prefix, colon, _ = title.partition(":")
    if colon and (prefix.strip().casefold() in media or well_formed(prefix)):
        return ""
    shown = title.lstrip(":") if link.text is None else _prose(link.text, media)
    return "" if "|" in shown else shown  # a file under another name


def _tag(tag: Tag, media: frozenset[str]) -> str:
    name = str(tag.tag).strip().lower()
    if name in DROPPED:
        return ""
    inner = _prose(tag.contents, media) if tag.contents else ""
    return f"\n{inner}\n" if name in BLOCKS and not tag.wiki_markup else inner


def _entity(entity: HTMLEntity, _: frozenset[str]) -> str:
    shown = str(entity.normalize())
    return "" if unicodedata.category(shown[0]) in ("Cs", "Cc") else shown  # half a character, a control code


_SHOWN: dict[type, Callable[[Any, frozenset[str]], str]] = {
    Text: lambda node, _: str(node.value),
    Wikilink: _link,
    ExternalLink: lambda node, media: _prose(node.title, media) if node.title and node.brackets else "",
    Tag: _tag,
    HTMLEntity: _entity,
}
"""What a node shows; what is not here shows nothing."""
