"""What a study keeps on the disk at most: encoders, and the checkpoint of a training under way; loads no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from xstilts.formats.base import HeadSpec
from xstilts.model import encoder_folder
from xstilts.model.shape import NewEncoder
from xstilts.study.plan import Plan
from xstilts.study.step import Step
from xstilts.utils.models import expand_user

WEIGHT, CHECKPOINT, MEAN = 4, 2 * 16, 2 * 4
"""Bytes a parameter: of an encoder that is kept in float32; of a checkpoint, which has weights, two moments of Adam's
and the best weights, and is written beside the one before; of the mean that some trainings have in theirs."""
LABELS = 2000
"""Tags that a task is taken to have where they are those of its training data (the paper's CCG has 1,363)."""
NOTES = 2**16
"""Bytes of a step's log, of what is noted of it, and of the headers of its weights, at most."""
PIECE = 100
"""Bytes of a byte-pair piece of a new tokenizer in its file, at most."""
BESIDES = ("token features", "predictions")


@dataclass(frozen=True)
class Size:
    """An encoder: its parameters with the language-model head, its width, the bytes of its other files."""

    parameters: int
    width: int
    others: int


@dataclass(frozen=True)
class DiskUsage:
    """What a plan takes at most, in bytes; None where the encoder is not here to be counted."""

    encoder: str
    encoders: int
    passing: int = 0
    """Encoders beside those that are kept, for as long as something starts from them; of one worker."""
    parameters: int | None = None
    kept_bytes: int | None = None
    passing_bytes: int | None = None
    checkpoint_bytes: int | None = None
    checkpoint_bytes_a_parameter: int = 0
    besides: tuple[str, ...] = BESIDES
    """What comes on top, for its size is not known before it is there."""

    def to_json(self) -> dict[str, Any]:
        """As `xstilts plan --json` prints it, under `disk`."""
        return asdict(self)

    def line(self) -> str:
        """The same in a line."""
        kept = f"{self.encoders} encoder{'' if self.encoders == 1 else 's'}"
        under_way = "for the checkpoint of the training under way"
        more = f"{', '.join(self.besides[:-1])} and {self.besides[-1]} come on top"
        now = f"{self.passing} more while {'it is' if self.passing == 1 else 'they are'} used, " if self.passing else ""
        if self.kept_bytes is None or self.checkpoint_bytes is None or self.passing_bytes is None:
            total = WEIGHT * (self.encoders + self.passing) + self.checkpoint_bytes_a_parameter
            return (
                f"disk: at most {total} bytes a parameter of {self.encoder}, which is not here to be counted: "
                f"{kept} kept, {now}{WEIGHT} bytes each, and {self.checkpoint_bytes_a_parameter} {under_way}; {more}"
            )
        each = f" of {format_bytes(self.kept_bytes / self.encoders)}" if self.encoders else ""
        total = self.kept_bytes + self.passing_bytes + self.checkpoint_bytes
        return (
            f"disk: at most {format_bytes(total)}: {kept}{each} kept, {now}"
            f"{format_bytes(self.checkpoint_bytes)} {under_way}; {more}"
        )


def estimate(plan: Plan, data: Path | None) -> list[DiskUsage]:
    """Count what a plan takes, as if none of it were there, for each of its encoders."""
    return [_estimate(part, data) for part in plan.parts.values() or [plan]]


def _estimate(plan: Plan, data: Path | None) -> DiskUsage:
    name = plan.recipe.encoder
    assert name is not None, "a part has one encoder"
    made = [step for step in plan.steps.values() if step.kind != "evaluate"]
    size = _new(name) if isinstance(name, NewEncoder) else _there(name.replace("{data}", str(data or "{data}")))
    said = "a new encoder" if isinstance(name, NewEncoder) else name
    each = {
        step.id: CHECKPOINT + MEAN * (step.training.snapshots is not None)
        for step in made if step.training is not None
    }  # fmt: skip
    kept = {step.id: copies(step) for step in made if plan.keeps_encoder(step)}
    passing = _deepest(plan, {step.id: copies(step) for step in made if step.id not in kept})
    words = isinstance(name, NewEncoder) and name.tokenizer == "words"  # which may be of any length
    counted = DiskUsage(said, sum(kept.values()), sum(passing.values()),
                   checkpoint_bytes_a_parameter=max(each.values(), default=0),
                   besides=("the tokenizer's words", *BESIDES) if words else BESIDES)  # fmt: skip
    if size is None:
        return counted
    whole = {step.id: size.parameters + _heads(plan, step, size.width) for step in made}

    def bytes_of(encoders: Mapping[str, int]) -> int:
        return sum((WEIGHT * whole[id] + size.others + NOTES) * number for id, number in encoders.items())

    return replace(
        counted,
        parameters=size.parameters,
        kept_bytes=bytes_of(kept),
        passing_bytes=bytes_of(passing),
        checkpoint_bytes=max((whole[id] * bytes for id, bytes in each.items()), default=0),
    )


def _deepest(plan: Plan, passing: Mapping[str, int]) -> dict[str, int]:
    """Of encoders that do not stay, those that are there at once at most: the most from a first to a last step."""
    most: dict[str, dict[str, int]] = {}
    for step in plan.steps.values():  # parents first
        before = [most[id] for id in step.parents]
        joined = {id: number for some in before for id, number in some.items()}
        most[step.id] = joined | ({step.id: passing[step.id]} if step.id in passing else {})
    return max(most.values(), key=lambda some: sum(some.values()), default={})


def copies(step: Step) -> int:
    """Encoders that a step keeps: the mean of a training is one more, whose files the step that scores it shares."""
    if step.merging is not None and step.merging.how == "checkpoints":
        return 0
    return 2 if step.training is not None and step.training.snapshots is not None else 1


def _heads(plan: Plan, step: Step, width: int) -> int:
    """Parameters of the heads that a training draws."""
    forms = [plan.tasks[name].format for name in step.heads]
    return sum(_head(form.head, width, LABELS if form.open else form.head.outputs) for form in forms)


def _head(head: HeadSpec, width: int, outputs: int) -> int:
    last = width * outputs + outputs
    return {"pooled": 2 * (width * width + width) + last, "token": last, "span": 2 * width + 2}.get(head.kind, 0)


def _new(shape: NewEncoder) -> Size | None:
    """A new encoder, with as many pieces as it may have; see `scratch.create`. None if its tokenizer is given."""
    if shape.given is not None:
        return None
    h, pieces = shape.hidden, shape.vocabulary
    dense, norm = h * h + h, 2 * h
    words = pieces * h + (shape.max_length + 2) * h + h + norm  # pieces, positions, the one type
    block = 4 * dense + norm + (h * 4 * h + 4 * h) + (4 * h * h + h) + norm
    head = dense + norm + pieces  # its matrix is the words'
    return Size(words + shape.layers * block + head, h, PIECE * pieces * (shape.tokenizer != "words"))


def _there(name: str) -> Size | None:
    """An encoder in a folder or in the Hub's cache; None if it is neither, or cannot be read."""
    folder = encoder_folder.place(expand_user(name))
    if folder is None:
        return None
    weights = sorted(folder.glob("*.safetensors"))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        width = next((config[key] for key in ("hidden_size", "dim", "d_model") if key in config), 0)
        return Size(sum(map(parameters, weights)), int(width), _others(folder)) if weights else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _others(folder: Path) -> int:
    """Bytes of the tokenizer's files and of the configuration."""
    return sum(path.stat().st_size for path in folder.glob("*.json"))


def parameters(path: Path) -> int:
    """How many numbers a safetensors file holds.

    Raises:
        ValueError: it is no such file.
    """
    return sum(prod(_shape(tensor)) for tensor in encoder_folder.header(path).values())


def _shape(tensor: dict[str, Any]) -> Sequence[int]:
    shape: Sequence[int] = tensor["shape"]
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{shape} is no shape")
    return shape


def format_bytes(size: float) -> str:
    """Bytes in a unit that suits them.

    >>> format_bytes(3_140_000_000), format_bytes(220_000_000), format_bytes(85_000)
    ('3.1 GB', '0.22 GB', '0.09 MB')
    """
    unit, number = ("GB", size / 1e9) if size >= 1e8 else ("MB", size / 1e6)
    return f"{number:.2f} {unit}" if number < 1 else f"{number:,.1f} {unit}"
