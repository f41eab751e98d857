"""Trackio's local database: a project for the run folder, a run for each training."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import trackio


class Trackio:
    """Writes to the database in TRACKIO_DIR, by default in Hugging Face's cache."""

    def __init__(self, out: Path) -> None:
        self._project = "-".join(out.absolute().parts[-2:]).lstrip("/-")

    def start(self, name: str, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Open a run of the project."""
        with redirect_stdout(io.StringIO()):  # it reports on stdout, which has our tables
            if not resume:
                self._remove(name)
            self._run = trackio.init(
                project=self._project, name=name, config={**settings}, resume="allow" if resume else "never",
                embed=False, auto_log_gpu=False, auto_log_cpu=False,
            )  # fmt: skip

    def _remove(self, name: str) -> None:
        try:
            earlier = [run for run in trackio.Api().runs(self._project) if run.name == name]
        except ValueError:  # the project is new
            return
        for run in earlier:
            run.delete()

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add points."""
        self._run.log({**scalars}, step=step)

    def finish(self) -> None:
        """Write what is left."""
        with redirect_stdout(io.StringIO()):
            trackio.finish()
