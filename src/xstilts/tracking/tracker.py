"""What a tracker does, and how to find one by its name: built in, or a plug-in of an installed package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from xstilts.errors import UserError, nearest

GROUP = "xstilts.trackers"
"""The entry points that name a plug-in's tracker."""
BUILT_IN = {"tensorboard": "TensorBoard", "trackio": "Trackio"}
PACKAGES = {"tensorboard": "tensorboardX", "trackio": "trackio"}


class Tracker(Protocol):
    """Writes the numbers of trainings where another program shows them, one training at a time."""

    def start(self, name: str, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Begin to write a training.

        Args:
            name: the training's title, seed and step id: letters, digits and `.,+-_` only.
            settings: the content of its `step.json`.
            resume: add to the points that are there; otherwise remove those.
        """

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write the numbers at an update (counted from 1): loss, dev score, lr, speeds."""

    def finish(self) -> None:
        """End the training; its points are safe when this returns."""


TrackerFactory = Callable[[Path], Tracker]
"""Makes a tracker for a run folder."""


def find_tracker(name: str, option: str) -> TrackerFactory:
    """The tracker of this name.

    Args:
        name: a built-in tracker, or an entry point of the group `xstilts.trackers`.
        option: the option that names it, for messages.

    Raises:
        UserError: there is no such tracker, or its package is not installed.
    """
    plug_ins = {point.name: point for point in entry_points(group=GROUP)}
    if name in BUILT_IN:
        if find_spec(PACKAGES[name]) is None:
            raise UserError(
                f"{PACKAGES[name]} is not installed", where=f"{option} {name}", hint=f"pip install 'xstilts[{name}]'"
            )
        point = EntryPoint(name, f"xstilts.tracking.{name}:{BUILT_IN[name]}", GROUP)
    elif name in plug_ins:
        point = plug_ins[name]
    else:
        raise UserError("no such tracker", where=f"{option} {name}", hint=nearest(name, [*BUILT_IN, *plug_ins]))
    try:
        factory: TrackerFactory = point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"cannot be loaded: {error}", where=f"{option} {name} ({point.value})") from error
    return factory
