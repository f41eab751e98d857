"""Fills a template of the page: one file with its style sheet and its script, and a policy that allows no others."""

from __future__ import annotations

import gzip
import platform
import re
from base64 import b64encode
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from xstilts.errors import UserError
from xstilts.html.tables import LEVELS
from xstilts.utils.files import write_atomic
from xstilts.utils.version import __version__

_TEMPLATES = Path(__file__).parent / "templates"
_GENERATOR = '<meta name="generator" content="xstilts">'
"""A page has it near its beginning."""


def render(template: str, *, refresh: int | None = None, **values: object) -> str:
    """A page; all text in `values` is escaped unless it is `Markup`.

    Args:
        template: the name of its file.
        refresh: seconds after which the page loads itself again.
        values: what the template names.
    """
    return fill(
        template,
        csp=_content_security_policy(),
        style=Markup(_text("style.css")),
        script=Markup(_text("script.js")),
        refresh=refresh,
        levels=LEVELS,
        generator=Markup(_GENERATOR),
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        version=__version__,
        python=platform.python_version(),
        **values,
    )


def fill(template: str, **values: object) -> str:
    """A template, or a part of a page, with these values; all text is escaped unless it is `Markup`."""
    return _environment().get_template(template).render(values)


def head(path: Path) -> str:
    """The beginning of a file, with the title if it is a page; empty if there is no file, `?` if nobody may read it."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(4096)
    except FileNotFoundError:
        return ""
    except OSError:
        return "?"


def write_page(path: Path, page: str) -> None:
    """Write a page, also over an earlier one.

    Raises:
        UserError: the file is no page of this package.
    """
    if (there := head(path)) and _GENERATOR not in there:
        raise UserError("is no page that xstilts has written", where=str(path), hint="move it, and repeat the command")
    write_atomic(path, page)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        auto_reload=False,  # an update of the package leaves a running study its templates
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": _code, "packed": _packed}
    return environment


def _packed(html: str) -> str:
    """HTML compressed by gzip, in base64; the same HTML always gives the same text."""
    return b64encode(gzip.compress(html.encode(), mtime=0)).decode()


def _code(text: str) -> Markup:
    """A sentence whose words in backticks are code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


@cache
def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _content_security_policy() -> str:
    """Only this style sheet and this script may work, and nothing is loaded."""
    style, script = (b64encode(sha256(_text(name).encode()).digest()).decode() for name in ("style.css", "script.js"))
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    )
