"""TensorBoard's event files, one folder a training, in the run folder's `tensorboard`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from tensorboardX import SummaryWriter


class TensorBoard:
    """Writes event files."""

    def __init__(self, out: Path) -> None:
        self._folder = out / "tensorboard"

    def start(self, name: str, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Open a new event file; TensorBoard joins those of a folder."""
        if not resume:
            shutil.rmtree(self._folder / name, ignore_errors=True)
        # files are named by the second: without a suffix a second one would replace the first
        self._writer = SummaryWriter(str(self._folder / name), filename_suffix=f".{uuid4().hex[:8]}")

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add points."""
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, step)

    def finish(self) -> None:
        """Close the file."""
        self._writer.close()
