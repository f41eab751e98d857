"""Finds the strictest of several licences, under the name that the Hub has for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from xstilts.translate.engine import is_apertium

UNKNOWN = "unknown"
_HUB = """\
apache-2.0 mit bsd-2-clause bsd-3-clause odc-by odbl cc0-1.0 unlicense pddl gpl-2.0 gpl-3.0 agpl-3.0 lgpl-3.0
cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nd-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
""".split()
"""Licences that the Hub accepts by these names: https://huggingface.co/docs/hub/repositories-licenses."""
_CREATIVE_COMMONS = re.compile(r"cc-by(-nc)?(-sa|-nd)?-\d\.\d")
"""All of them, also those that the Hub has no name for, such as CC BY-SA 2.0."""
_NON_COMMERCIAL = re.compile(r"\bnc\b|non[- ]?commercial|no(t for)? commercial")
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
_MARKS = {
    "nd": "no derivatives", "sa": "share-alike", "gpl": "share-alike", "agpl": "share-alike", "lgpl": "share-alike",
    "odbl": "share-alike",
}  # fmt: skip
"""The kind of a known licence, by a part of its name."""


class License(NamedTuple):
    """A licence as a card names it."""

    hub: str
    """Its name on the Hub: also `other`, or `unknown`."""
    text: str
    """As its owner or the user wrote it."""
    kinds: tuple[str, ...]
    """Keys of the warnings, the strictest first; none if there is nothing to warn of."""

    @property
    def warning(self) -> str:
        """What a reader must know; empty if it is free."""
        return "; ".join(_WARNINGS[kind] for kind in self.kinds)


def parse(text: str) -> License:
    """Read a licence as task files and the catalogue write it.

    >>> parse("CC BY-NC 4.0").hub, parse("Apache 2.0").hub, parse("cc-by-2.0").hub, parse("CC BY 2.0 FR").hub
    ('cc-by-nc-4.0', 'apache-2.0', 'cc-by-2.0', 'cc-by-2.0')
    >>> parse("Quora's terms, not for commercial use")[::2], parse("")[::2]
    (('other', ('non-commercial', 'other')), ('unknown', ('unknown',)))
    """
    text = " ".join(text.split())
    if text.lower().strip(".") in ("", UNKNOWN):
        return License(UNKNOWN, UNKNOWN, ("unknown",))
    name = re.sub(r"[^a-z0-9.]+", "-", re.sub(r"\(.*?\)", "", text.lower()).strip()).strip("-.")
    name = re.sub(r"^(cc-by.*\d)-[a-z]{2,3}$", r"\1", name)  # adapted to a country's law, or for organizations
    known = name in _HUB or bool(_CREATIVE_COMMONS.fullmatch(name))
    kinds = {kind for mark, kind in _MARKS.items() if mark in name.split("-")} if known else {"other"}
    non_commercial = bool(_NON_COMMERCIAL.search(text.lower()))
    kinds |= {"non-commercial"} if non_commercial else set()
    accepted = name in _HUB and non_commercial == ("-nc" in name)  # not with a remark such as (non-commercial)
    return License(name if accepted else "other", text, tuple(kind for kind in _WARNINGS if kind in kinds))


def strictest(licenses: Iterable[License]) -> License:
    """The licence of the strictest kind, among these that with the strictest other kinds; unknown if there is none."""
    ranks = [*_WARNINGS]
    return min(licenses, key=lambda one: [*map(ranks.index, one.kinds), len(ranks)], default=parse(""))


def of_engine(engine: Mapping[str, str]) -> License | None:
    """The licence of an engine of translations, as a translation's card names it; None if it does not reach its texts.

    The playground's engine is a part of this package. Apertium is a program, whose licence covers the program alone.
    """
    if engine.get("engine") == "playground" or any(map(is_apertium, engine.get("command", "").split()[:1])):
        return None
    model = engine.get("model", "").rpartition("/")[2].lower()
    return parse(next((license for part, license in _ENGINES.items() if part in model), ""))
