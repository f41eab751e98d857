"""A trained model: a folder with an encoder, its heads and a record of what each head is for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, SerializeAsAny, ValidationError, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from xstilts.errors import UserError, nearest
from xstilts.formats import FORMATS
from xstilts.formats.base import ClassificationHead, Format
from xstilts.model import encoder as encoders
from xstilts.model import heads
from xstilts.model.encoder import Encoder
from xstilts.model.heads import Head
from xstilts.utils.files import first_error, write_atomic
from xstilts.utils.models import Strict


class HeadRecord(Strict):
    """What a head needs beside its weights; stored as `head-<i>.json`.

    The weights of a language-model head are in the encoder's checkpoint.
    """

    task: str
    """The training task."""
    format: SerializeAsAny[Format]
    """Complete, with the labels in the order of the head's outputs, even if they come from the training data."""
    head: ClassificationHead | None = None
    """Of a task with a classification head; a record without it is older, and its head is jiant's."""
    metric: str
    """The task's main metric."""
    languages: tuple[str, ...]
    """Of the training data."""
    max_length: int = Field(ge=1)
    """Tokens of a forward pass at most, special tokens included."""
    tokenizer: str
    """The digest of the encoder's tokenizer; see `Encoder.tokenizer_digest`."""
    threshold: float | None = Field(default=None, allow_inf_nan=False)
    """The threshold of `decode`. None after training, since evaluation tunes it on dev data (`Format.calibrate`);
    `model_copy(update={"threshold": value})` sets it."""

    @field_validator("format", mode="before")
    @classmethod
    def _named_format(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        name, fields = value.get("name"), {key: given for key, given in value.items() if key != "name"}
        if not isinstance(name, str) or name not in FORMATS:
            raise ValueError(f"no format '{name}'; {nearest(str(name), FORMATS)}")
        return FORMATS[name].model_validate(fields)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the head's outputs; empty for formats without labels."""
        return tuple(getattr(self.format, "labels", None) or ())

    def fits(self, format: Format) -> bool:
        """Whether the head can predict for this format: the same kind of data, outputs, labels and positions."""
        labels = tuple(getattr(format, "labels", None) or ())
        same = (self.format.name, self.format.head, self.labels) == (format.name, format.head, labels)
        return same and format == format.as_trained(self.format)

    def to_json(self) -> str:
        """The record as it is stored, with the name of the format."""
        row = self.model_dump(mode="json")
        row["format"] = {"name": self.format.name} | row["format"]
        return json.dumps(row, ensure_ascii=False, indent=1) + "\n"


@dataclass
class TrainedHead:
    """A head and its record."""

    record: HeadRecord
    module: Head


@dataclass
class TrainedModel:
    """An encoder with the heads that were trained with it; `heads` is empty if it was not trained on tasks."""

    encoder: Encoder
    heads: list[TrainedHead] = field(default_factory=list)

    def head_for(self, task: str, format: Format) -> TrainedHead | None:
        """The head of the task of this name, else the first of another task, that fits the format; None without one.

        The format then has to read as in the head's training: `format.as_trained(head.record.format)`.
        """
        fitting = [head for head in self.heads if head.record.fits(format.as_trained(head.record.format))]
        return min(fitting, key=lambda head: head.record.task != task, default=None)

    def save(self, folder: Path) -> None:
        """Write `encoder/`, `head-<i>.json`, and `head-<i>.safetensors` for each head with weights of its own."""
        self.encoder.save(folder / "encoder")
        for i, head in enumerate(self.heads):
            if head.record.format.head.trained:
                save_file(head.module.state_dict(), _weights(folder, i))
            write_atomic(_record(folder, i), head.record.to_json())

    @classmethod
    def load(cls, folder: Path) -> TrainedModel:
        """Load a step's folder, wherever it lies.

        Raises:
            UserError: a file is missing or damaged, a head has weights of another shape or name, or was trained with
                another tokenizer.
        """
        if not is_trained_model(folder):  # otherwise the path would be read as a Hub id
            raise UserError("has no encoder", where=str(folder), hint="a recipe with `keep: all` keeps its encoders")
        encoder = encoders.load(str(folder / "encoder"))
        return cls(encoder, [_load_head(folder, i, record, encoder) for i, record in enumerate(read_records(folder))])


def is_trained_model(folder: Path) -> bool:
    """Whether a folder is one that `TrainedModel.save` writes."""
    return (folder / "encoder").is_dir()


def read_records(folder: Path) -> list[HeadRecord]:
    """What the heads in a step's folder are for, in their order.

    Raises:
        UserError: a record is damaged, or is missing beside a head's weights.
    """
    found = [re.fullmatch(r"head-(\d+)\.(json|safetensors)", path.name) for path in folder.iterdir()]
    count = max((int(name[1]) + 1 for name in found if name), default=0)
    return [_read_record(_record(folder, i)) for i in range(count)]


def copy_records(sources: Sequence[Path], to: Path, heads: Iterable[int]) -> None:
    """Describe merged heads as those of the first source.

    Raises:
        UserError: another source's head has other labels, or another format.
    """
    for i in heads:
        first, *others = (_read_record(_record(source, i)) for source in sources)
        for source, other in zip(sources[1:], others, strict=True):
            if not first.fits(other.format):
                what = f"has other labels than {_record(sources[0], i)}, so the heads cannot be merged"
                raise UserError(what, where=str(_record(source, i)))
        write_atomic(_record(to, i), first.to_json())


def _record(folder: Path, i: int) -> Path:
    return folder / f"head-{i}.json"


def _weights(folder: Path, i: int) -> Path:
    return folder / f"head-{i}.safetensors"


def _read_record(path: Path) -> HeadRecord:
    try:
        return HeadRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError("is missing, and says what the head is for", where=str(path)) from error
    except (OSError, ValueError) as error:
        first = first_error(error).replace("Value error, ", "") if isinstance(error, ValidationError) else str(error)
        raise UserError(f"cannot be read: {first}", where=str(path)) from error


def _load_head(folder: Path, i: int, record: HeadRecord, encoder: Encoder) -> TrainedHead:
    if record.tokenizer != encoder.tokenizer_digest():
        what = f"was trained with another tokenizer than that in {folder / 'encoder'}"
        raise UserError(what, where=str(_record(folder, i)), hint="copy the step's folder anew")
    spec, path = record.format.head, _weights(folder, i)
    if spec.kind == "vocabulary" and encoder.vocabulary is None:
        what = "is for a language-model head, which the encoder does not have"
        raise UserError(what, where=str(_record(folder, i)), hint="copy the step's folder anew")
    if path.is_file() != spec.trained:
        what = "the weights are missing"
        if not spec.trained:
            what = f"the format '{record.format.name}' has no weights of its own"
        raise UserError(what, where=str(path), hint="copy the step's folder anew")
    head = heads.build(spec, encoder.config, encoder.vocabulary, record.head or "jiant")
    if spec.trained:
        try:
            weights = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"the weights cannot be read: {error}", where=str(path)) from error
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        if shapes != (needed := {name: tuple(weight.shape) for name, weight in head.state_dict().items()}):
            raise UserError(_difference(shapes, needed), where=str(path), hint="copy the step's folder anew")
        head.load_state_dict(weights)
    return TrainedHead(record, head)


def _difference(found: dict[str, tuple[int, ...]], needed: dict[str, tuple[int, ...]]) -> str:
    name = next(name for name in sorted(found.keys() | needed.keys()) if found.get(name) != needed.get(name))
    spelled = [str(list(shapes[name])) if name in shapes else "none" for shapes in (found, needed)]
    return f"the weights do not fit: {name} is {spelled[0]}, not {spelled[1]}"
