"""Finds the strictest of several licences, under the name that the Hub has for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

UNKNOWN = "unknown"
_PLAIN = (
    "apache-2.0 mit bsd-2-clause bsd-3-clause odc-by cc0-1.0 unlicense pddl gpl-2.0 gpl-3.0 agpl-3.0 lgpl-3.0".split()
)
"""Licences that the Hub knows by these names; those of Creative Commons are matched by their pattern."""
_CREATIVE_COMMONS = re.compile(r"cc-by(-nc)?(-sa|-nd)?-[1-4]\.\d")
_ENGINES = {"nllb": "CC BY-NC 4.0", "madlad": "Apache 2.0", "m2m100": "MIT", "mbart": "MIT"}
"""Of translation models, by a part of their name."""
_WARNINGS = {
    "unknown": "ask the owner before you use the model",
    "non-commercial": "no commercial use",
    "other": "terms of its own, which you should read",
    "no derivatives": "no derived works",
    "share-alike": "derived works keep the licence",
}
"""What a reader must know of each kind of licence, the strictest first; all other licences ask for a name at most."""


class License(NamedTuple):
    """A licence as a card names it."""

    hub: str
    """Its name on the Hub: also `other`, or `unknown`."""
    text: str
    """As its owner or the user wrote it."""
    kind: str
    """A key of the warnings; empty if there is nothing to warn of."""

    @property
    def warning(self) -> str:
        """What a reader must know; empty if it is free."""
        return _WARNINGS.get(self.kind, "")


def parse(text: str) -> License:
    """Read a licence as task files and the catalogue write it.

    >>> parse("CC BY-NC 4.0").hub, parse("Apache 2.0").hub, parse("cc-by-2.0").hub, parse("CC BY 2.0 FR").hub
    ('cc-by-nc-4.0', 'apache-2.0', 'cc-by-2.0', 'cc-by-2.0')
    >>> parse("Quora's terms, not for commercial use")[::2], parse("")[::2]
    (('other', 'non-commercial'), ('unknown', 'unknown'))
    """
    text = " ".join(text.split())
    name = re.sub(r"[^a-z0-9.]+", "-", re.sub(r"\(.*?\)", "", text.lower()).strip()).strip("-.")
    name = re.sub(r"^(cc-by.*\d)-[a-z]{2}$", r"\1", name)  # adapted to a country's law
    if name in ("", UNKNOWN):
        return License(UNKNOWN, UNKNOWN, "unknown")
    known = name in _PLAIN or bool(_CREATIVE_COMMONS.fullmatch(name))
    if re.search(r"\bnc\b|non-?commercial|not for commercial", text.lower()):
        kind = "non-commercial"
    elif not known:
        kind = "other"
    else:
        marks = {"nd": "no derivatives", "sa": "share-alike", "gpl": "share-alike", "agpl": "share-alike"}
        kind = next((kind for mark, kind in marks.items() if mark in name.split("-")), "")
    return License(name if known else "other", text, kind)


def strictest(licenses: Iterable[License]) -> License:
    """The first of the strictest kind; unknown if there is none."""
    ranks = [*_WARNINGS, ""]
    return min(licenses, key=lambda one: ranks.index(one.kind), default=parse(""))


def of_engine(engine: Mapping[str, str]) -> License | None:
    """The licence of an engine of translations, as a translation's card names it; None if it does not reach its texts.

    The playground's engine is a part of this package. Apertium is a program, whose licence covers the program alone.
    """
    if engine.get("engine") == "playground" or engine.get("command", "").split()[:1] == ["apertium"]:
        return None
    model = engine.get("model", "").rpartition("/")[2].lower()
    return parse(next((license for part, license in _ENGINES.items() if part in model), ""))
