"""Finds files of Hugging Face Hub data sets in the local cache; downloads them only on request."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from xstilts.errors import UserError, first_line

HUB = "hub:"
_PLACE = re.compile(r"hub:([^/@\s]+/[^/@\s]+)(?:@(refs/(?:convert|pr)/[^/]+|[^/]+))?/(.+)")


@dataclass(frozen=True)
class Place:
    """A file, or a file pattern, of a data set on the Hub."""

    repo: str
    revision: str
    path: str


def place(text: str) -> Place:
    """Parse `hub:REPO/PATH` or `hub:REPO@REVISION/PATH`; the revision is `main` by default.

    >>> place("hub:google/xtreme/XQuAD.de/validation-*.parquet")
    Place(repo='google/xtreme', revision='main', path='XQuAD.de/validation-*.parquet')
    >>> place("hub:me/mine@refs/convert/parquet/a.parquet").revision
    'refs/convert/parquet'

    Raises:
        UserError: the text does not have this form.
    """
    parts = _PLACE.fullmatch(text)
    if parts is None:
        hint = "write hub:OWNER/NAME/PATH or hub:OWNER/NAME@REVISION/PATH"
        raise UserError(f"'{text}' names no file of a data set on the Hub", hint=hint)
    return Place(parts[1], parts[2] or "main", parts[3])


def folder(where: Place) -> Path | None:
    """The cached folder of a data set at its revision; None if it was never downloaded.

    `HF_HUB_CACHE` or `HF_HOME` sets the cache. Nothing is downloaded. `snapshot_download` does the same, but loads an
    HTTP client.
    """
    from huggingface_hub import constants  # here, because most commands need no Hub

    cached = Path(constants.HF_HUB_CACHE) / ("datasets--" + where.repo.replace("/", "--"))
    if not cached.is_dir():
        return None
    named = cached / "refs" / where.revision
    commit = named.read_text(encoding="utf-8", errors="replace").strip() if named.is_file() else where.revision
    snapshot = cached / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def fetch(places: Iterable[Place], say: Callable[[str], None]) -> None:
    """Download files into the Hub's local cache, unless they are there.

    Args:
        places: the files.
        say: receives progress and failures.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    failures: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__bases__[0])  # the HTTP library's own errors
    if not sys.stderr.isatty():
        disable_progress_bars()
    patterns: dict[tuple[str, str], list[str]] = {}
    for place in places:
        patterns.setdefault((place.repo, place.revision), []).append(place.path)
    for (repo, revision), paths in patterns.items():
        wanted = sorted(set(paths))
        more = f" and {len(wanted) - 1} more" if len(wanted) > 1 else ""
        say(f"downloading {wanted[0]}{more} of {repo}")
        try:
            snapshot_download(repo, repo_type="dataset", revision=revision, allow_patterns=wanted)
        except failures as error:
            cause = error.__cause__ or error
            answered = not isinstance(cause, (*failures[1:], OfflineModeIsEnabled)) or isinstance(cause, HfHubHTTPError)
            why = "" if answered else "; the Hub was not reached"
            say(f"{repo} could not be downloaded{why}: {first_line(cause)}")
