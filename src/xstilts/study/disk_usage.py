"""Estimates the most disk that a study takes, for encoders and one checkpoint; loads no weights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from xstilts.formats.base import HeadSpec
from xstilts.model import encoder_folder
from xstilts.model.shape import NewEncoder
from xstilts.study.index import Cell
from xstilts.study.plan import Plan
from xstilts.study.step import Step
from xstilts.utils.models import encoder_path

WEIGHT_BYTES, CHECKPOINT_BYTES, MEAN_BYTES = 4, 2 * 16, 2 * 4
"""Bytes per parameter. An encoder is saved in float32. A checkpoint has the weights, Adam's two moments and the best
weights, and the last checkpoint stays until the next is written. Some trainings also save the mean of the weights."""
MAX_LABELS = 2000
"""The most labels of a task whose labels come from its training data (CCG in the paper has 1,363)."""
LOG_BYTES = 2**16
"""The most bytes of a step's log, its records and the headers of its weights."""
PIECE_BYTES = 100
"""The most bytes of a piece in the file of a new byte-pair tokenizer."""
NOT_COUNTED = ("token features", "predictions")


@dataclass(frozen=True)
class Size:
    """The size of an encoder: parameters with the language-model head, hidden size, bytes of its other files."""

    parameters: int
    width: int
    other_bytes: int


@dataclass(frozen=True)
class DiskUsage:
    """The most disk that a plan takes, in bytes; None if the encoder is not on this machine."""

    encoder: str
    encoders: int
    temporary: int = 0
    """Encoders that a worker keeps only until the steps that start from them are done."""
    parameters: int | None = None
    kept_bytes: int | None = None
    temporary_bytes: int | None = None
    checkpoint_bytes: int | None = None
    checkpoint_bytes_per_parameter: int = 0
    not_counted: tuple[str, ...] = NOT_COUNTED
    """Files that come on top; their size is unknown before a run."""

    def to_json(self) -> dict[str, Any]:
        """As `xstilts plan --json` prints it, under `disk`."""
        return asdict(self)

    def line(self) -> str:
        """The same in one line."""
        kept = f"{self.encoders} encoder{'' if self.encoders == 1 else 's'}"
        used = f"{self.temporary} more while {'it is' if self.temporary == 1 else 'they are'} used, "
        temporary = used if self.temporary else ""
        checkpoint = "for the checkpoint of the running training"
        on_top = f"{', '.join(self.not_counted[:-1])} and {self.not_counted[-1]} come on top"
        if self.kept_bytes is None or self.checkpoint_bytes is None or self.temporary_bytes is None:
            per_parameter = self.checkpoint_bytes_per_parameter
            total = WEIGHT_BYTES * (self.encoders + self.temporary) + per_parameter
            return (
                f"disk: at most {total} bytes per parameter of {self.encoder}, which is not on this machine: "
                f"{kept} kept, {temporary}{WEIGHT_BYTES} bytes each, and {per_parameter} {checkpoint}; {on_top}"
            )
        each = f" of {format_bytes(self.kept_bytes / self.encoders)}" if self.encoders else ""
        total = self.kept_bytes + self.temporary_bytes + self.checkpoint_bytes
        return (
            f"disk: at most {format_bytes(total)}: {kept}{each} kept, {temporary}"
            f"{format_bytes(self.checkpoint_bytes)} {checkpoint}; {on_top}"
        )


def estimate(plan: Plan, data: Path | None) -> list[DiskUsage]:
    """The disk that a plan takes for each of its encoders if no step is done yet."""
    return [_estimate(part, data) for part in plan.by_encoder.values()]


def _estimate(plan: Plan, data: Path | None) -> DiskUsage:
    name = plan.recipe.encoder
    assert name is not None, "a part has one encoder"
    steps = [step for step in plan.steps.values() if step.has_encoder]
    if isinstance(name, NewEncoder):
        label, size = "a new encoder", _new_encoder(name)
    else:
        label, size = name, _saved_encoder(encoder_path(name, data))
    checkpoint = {
        step.id: CHECKPOINT_BYTES + MEAN_BYTES * (step.training.snapshots is not None)
        for step in steps if step.training is not None
    }  # fmt: skip
    kept = {step.id: num_encoders(step) for step in steps if plan.keeps_encoder(step)}
    temporary = Counter(
        _largest_temporary(plan, {step.id: num_encoders(step) for step in steps if step.id not in kept})
    )
    if plan.recipe.keep == "best":
        kept, last = _target_encoders(plan, plan.cells[::-1]), _target_encoders(plan, plan.cells)
        temporary += Counter(last if last != kept else {})  # the best run of the last branch, beside that of the others
    words = isinstance(name, NewEncoder) and name.tokenizer == "words"  # words may be of any length
    counted = DiskUsage(label, sum(kept.values()), sum(temporary.values()),
                   checkpoint_bytes_per_parameter=max(checkpoint.values(), default=0),
                   not_counted=("the tokenizer's words", *NOT_COUNTED) if words else NOT_COUNTED)  # fmt: skip
    if size is None:
        return counted
    parameters = {step.id: size.parameters + _heads(plan, step, size.width) for step in steps}

    def bytes_of(encoders: Mapping[str, int]) -> int:
        return sum(
            (WEIGHT_BYTES * parameters[id] + size.other_bytes + LOG_BYTES) * number for id, number in encoders.items()
        )

    return replace(
        counted,
        parameters=size.parameters,
        kept_bytes=bytes_of(kept),
        temporary_bytes=bytes_of(temporary),
        checkpoint_bytes=max((parameters[id] * bytes for id, bytes in checkpoint.items()), default=0),
    )


def _target_encoders(plan: Plan, cells: Sequence[Cell]) -> dict[str, int]:
    """The encoders of the last of these runs of each target."""
    targets = {task.name for task in plan.study().targets}
    last = {(cell.task, cell.language): plan.steps[cell.step].parents for cell in cells if cell.task in targets}
    return {id: num_encoders(plan.steps[id]) for parents in last.values() for id in parents}


def _largest_temporary(plan: Plan, temporary: Mapping[str, int]) -> dict[str, int]:
    """The temporary encoders along the chain of steps with the most of them: these are on the disk at once."""
    chains: dict[str, dict[str, int]] = {}
    for step in plan.steps.values():  # parents first
        before = {id: number for parent in step.parents for id, number in chains[parent].items()}
        chains[step.id] = before | ({step.id: temporary[step.id]} if step.id in temporary else {})
    return max(chains.values(), key=lambda chain: sum(chain.values()), default={})


def num_encoders(step: Step) -> int:
    """The number of encoders that a step saves: a training with averaged weights also saves the mean."""
    if step.merging is not None and step.merging.how == "checkpoints":
        return 0
    return 2 if step.training is not None and step.training.snapshots is not None else 1


def _heads(plan: Plan, step: Step, width: int) -> int:
    """Parameters of the heads that a step saves."""
    forms = [plan.tasks[name].format for name in step.heads]
    return sum(_head(form.head, width, MAX_LABELS if form.needs_labels else form.head.outputs) for form in forms)


def _head(head: HeadSpec, width: int, outputs: int) -> int:
    last = width * outputs + outputs
    return {"sequence": 2 * (width * width + width) + last, "token": last, "span": 2 * width + 2}.get(head.kind, 0)


def _new_encoder(shape: NewEncoder) -> Size | None:
    """The size of a new encoder with a full vocabulary, see `new_encoder.create`; None if its tokenizer is given."""
    if shape.given is not None:
        return None
    h, pieces = shape.hidden, shape.vocabulary
    dense, norm = h * h + h, 2 * h
    embeddings = pieces * h + (shape.max_length + 2) * h + h + norm  # pieces, positions, the only token type
    block = 4 * dense + norm + (h * 4 * h + 4 * h) + (4 * h * h + h) + norm
    head = dense + norm + pieces  # tied to the word table
    return Size(embeddings + shape.layers * block + head, h, PIECE_BYTES * pieces * (shape.tokenizer != "words"))


def _saved_encoder(name: str) -> Size | None:
    """The size of an encoder in a folder or in the Hub's cache; None if it is missing or cannot be read."""
    folder = encoder_folder.local_folder(name)
    if folder is None:
        return None
    weights = sorted(folder.glob("*.safetensors"))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        width = next((config[key] for key in ("hidden_size", "dim", "d_model") if key in config), 0)
        return Size(sum(map(num_parameters, weights)), int(width), _other_bytes(folder)) if weights else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _other_bytes(folder: Path) -> int:
    """Bytes of the tokenizer's files and of the configuration."""
    return sum(path.stat().st_size for path in folder.glob("*.json"))


def num_parameters(path: Path) -> int:
    """The number of parameters in a safetensors file.

    Raises:
        ValueError: it is no safetensors file.
    """
    return sum(prod(_shape(tensor)) for tensor in encoder_folder.header(path).values())


def _shape(tensor: dict[str, Any]) -> Sequence[int]:
    shape: Sequence[int] = tensor["shape"]
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{shape} is no shape")
    return shape


def format_bytes(size: float) -> str:
    """A number of bytes in MB or GB.

    >>> format_bytes(3_140_000_000), format_bytes(220_000_000), format_bytes(85_000)
    ('3.1 GB', '0.22 GB', '0.09 MB')
    """
    unit, number = ("GB", size / 1e9) if size >= 1e8 else ("MB", size / 1e6)
    return f"{number:.2f} {unit}" if number < 1 else f"{number:,.1f} {unit}"
