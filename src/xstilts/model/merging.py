"""Merge several encoders into one: average weights or add task vectors, a tensor at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xstilts.errors import UserError


def merge(sources: Sequence[Path], to: Path, *, heads: Sequence[int] = (), scale: float | None = None) -> None:
    """Write the mean of the weights of several steps; with a scale, base + scale x the sum of (weights - base).

    The latter adds task vectors (Ilharco et al. 2023: Editing Models with Task Arithmetic). Weights are read one at a
    time, so memory holds little more than the result; computation is in float64. Integer weights and all other files
    come from the first source.

    Args:
        sources: folders with `encoder` (all of one shape) and `head-<i>.safetensors`; with a scale, the base first.
        to: the folder to write the same into.
        heads: which heads are merged with the encoder.
        scale: of the vectors.

    Raises:
        UserError: weights cannot be read, or differ from the first source in name or shape.
    """
    first = sources[0]
    shutil.copytree(first / "encoder", to / "encoder", ignore=shutil.ignore_patterns("*.safetensors"))
    paths = [*sorted(first.glob("encoder/*.safetensors")), *(first / f"head-{i}.safetensors" for i in heads)]
    for path in paths:
        name = path.relative_to(first)
        save_file(_merge_file([source / name for source in sources], scale), to / name, metadata={"format": "pt"})


def _merge_file(paths: Sequence[Path], scale: float | None) -> dict[str, Tensor]:
    with ExitStack() as opened:
        files = [opened.enter_context(_open(path)) for path in paths]
        shapes = [{name: file.get_slice(name).get_shape() for name in file.keys()} for file in files]  # noqa: SIM118
        for path, found in zip(paths, shapes, strict=True):
            if found != shapes[0]:
                raise UserError(f"has other weights than {paths[0]}", where=str(path), hint=_rerun_hint(path))
        return {name: _merge_weight([file.get_tensor(name) for file in files], scale) for name in shapes[0]}


def _merge_weight(weights: Sequence[Tensor], scale: float | None) -> Tensor:
    merged = weights[0].clone()
    if merged.is_floating_point():
        for out_N, *in_N in zip(*(torch.split(weight.flatten(), CHUNK) for weight in (merged, *weights)), strict=True):
            all_SN = torch.stack(in_N).double()
            out_N.copy_(all_SN.mean(0) if scale is None else all_SN[0] + scale * (all_SN[1:] - all_SN[0]).sum(0))
    return merged


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise UserError(f"the weights cannot be read: {error}", where=str(path), hint=_rerun_hint(path)) from error


def _rerun_hint(path: Path) -> str:
    step = next(folder for folder in path.parents if folder.name != "encoder")
    return f"delete {step} and run again"


def link(source: Path, to: Path) -> None:
    """Copy a folder with hard links, where the file system has them."""
    shutil.copytree(source, to, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, to: str) -> None:
    try:
        os.link(source, to)
    except OSError:  # this file system has no links
        shutil.copy2(source, to)


CHUNK = 2**20
"""Numbers of a weight computed at a time in float64."""
