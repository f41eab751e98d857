"""Exports a trained model for other libraries: writes it beside its name, compares its scores, renames it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from uuid import uuid4

from safetensors import SafetensorError

from xstilts.errors import UserError
from xstilts.predict.export_check import TOLERANCE, Samples
from xstilts.predict.export_code import write_code
from xstilts.predict.export_hf import write_stock
from xstilts.predict.export_onnx import check_packages, write_onnx
from xstilts.predict.export_vectors import write_vectors
from xstilts.predict.model_card import ModelCard
from xstilts.predict.model_folder import has_head
from xstilts.predict.predictor import Predictor, load
from xstilts.predict.provenance import find_provenance
from xstilts.store.step_record import encoder_of
from xstilts.utils.os_errors import as_user_error

Target = Literal["hf", "hf-code", "sentence-transformers", "onnx"]
"""What reads the export: transformers (`hf-code`: by code in the folder), sentence-transformers or an ONNX runtime."""


@dataclass(frozen=True)
class Export:
    """A folder that was written, and how it compares with the model."""

    folder: Path
    reader: str
    """The class that loads it, or the file."""
    difference: float
    """The largest difference of a score from the model's own, on a few texts."""
    texts: int
    notes: tuple[str, ...] = ()
    """What a user should know to get the predictions of `xstilts predict`."""


Writer: TypeAlias = Callable[[Predictor, Samples, Path], tuple[str, float]]
"""Writes a folder, loads it again with the target's own code; returns what loads it, and the difference."""
WRITERS: Mapping[Target, Writer] = {
    "hf": write_stock, "hf-code": write_code, "sentence-transformers": write_vectors, "onnx": write_onnx,
}  # fmt: skip

LIBRARIES: Mapping[Target, str] = {
    "hf": "transformers", "hf-code": "transformers", "sentence-transformers": "sentence-transformers", "onnx": "onnx",
}  # fmt: skip
"""The library that loads the folder, as the Hub calls it."""


def export(
    folder: str | Path, out: str | Path, to: Target = "hf", *, task: str | None = None, card: str | None = None
) -> Export:
    """Write a trained model as a folder that another library loads without xstilts.

    Args:
        folder: a trained model, as `predictor.load` takes it; for vectors also an encoder, whose ONNX gives vectors.
        out: the new folder; it may be there if it is empty.
        to: what is to read it.
        task: the task whose head is exported, if the model has several.
        card: the name of the model on its card, README.md; None: no card.

    Raises:
        UserError: `out` is not empty; a package for the target is absent; the model is refused by `load`; the target
            has no class for it; the scores of what was written differ. Nothing is left behind.

    >>> export("runs/best/reviews/my-reviews", "reviews-model").reader  # doctest: +SKIP
    'XLMRobertaForSequenceClassification'
    """
    target = Path(out)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        what = "is a file" if target.is_file() else "is not empty"
        raise UserError(what, where=str(target), hint="give a new folder")
    if target.is_dir() and target.samefile(Path()):
        raise UserError("is the folder that you are in", where=str(out), hint="give a new folder")
    if to == "onnx":
        check_packages()
    headless = to == "onnx" and task is None and not has_head(str(folder))
    predictor = load(folder, task=task, vectors=headless or to == "sentence-transformers")
    predictor.encoder.to("cpu")
    predictor.head.to("cpu")
    samples = Samples.of(predictor)
    with _whole(target) as part:
        reader, difference = WRITERS[to](predictor, samples, part)
        if not difference <= TOLERANCE:
            what = f"the scores of the export differ by {difference:.1e} (at most {TOLERANCE:.0e}), so it is not kept"
            raise UserError(what, where=str(folder))
        notes = (*predictor.notes, *_notes(predictor))
        if card is not None:
            step = Path(encoder_of(str(folder), None))
            origin = find_provenance(step, predictor.head_number, predictor.encoder.retrieval_layer)
            ModelCard(card, LIBRARIES[to], predictor, origin, notes, own_code=to == "hf-code").write(part)
    return Export(target, reader, difference, len(samples.passes), notes)


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A folder beside `target` to write into; renamed at the end, removed after an error."""
    place = target.resolve()  # of a link: what it leads to
    part = place.with_name(f".{place.name}.{uuid4().hex[:8]}.part")
    with as_user_error(target):
        place.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
    try:
        with as_user_error(target, SafetensorError):
            yield part
            part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _notes(predictor: Predictor) -> Iterator[str]:
    """What the target's code does otherwise than `xstilts predict`, by the kind of head."""
    record = predictor.record
    if record is None:
        return
    yield f"texts may have {predictor.tokenizer.max_length} tokens: tokenize with truncation=True"
    if record.format.head.kind == "token":
        yield "a word has the tag of its first piece: pipeline(..., aggregation_strategy='first')"
    if getattr(record.format, "no_answer", False):
        threshold = predictor.threshold("en") or 0.0
        yield f"a question has no answer if the first token scores over {threshold:.4f} more than the best span"
