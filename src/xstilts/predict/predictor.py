"""Predictor: a trained model in memory, which predicts for rows or texts as its evaluation does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xstilts.data.records import check_inputs
from xstilts.errors import UserError, nearest
from xstilts.formats.base import Example, Format, Row
from xstilts.formats.retrieve import TextVectors
from xstilts.languages import ENGLISH
from xstilts.model import encoder as encoders
from xstilts.model import heads
from xstilts.model.features import FeatureSet
from xstilts.model.forward import head_outputs
from xstilts.model.trained import HeadRecord, TrainedModel
from xstilts.predict.model_folder import find_thresholds, load_model
from xstilts.store.step_record import encoder_of
from xstilts.utils.models import Precision

Input: TypeAlias = str | Sequence[str] | Mapping[str, Any]
"""A text, the texts of a row in order, or a row with its columns."""

LOOK_AHEAD = 1024
"""The most rows that are read before their predictions are there; similar lengths among them are computed together."""
CHARACTERS = 2**21
"""The most characters of these rows, unless one alone has more."""
MAX_LENGTH = 512
"""Tokens of a text at most whose vector is made, where no head says more."""


class Predictor:
    """A trained model with one of its heads, or an encoder that makes vectors. It may serve many calls, not threads.

    >>> predictor = load("runs/best/reviews/my-reviews")  # doctest: +SKIP
    >>> predictor.labels, predictor.inputs, predictor.max_length  # doctest: +SKIP
    (('bad', 'good'), ('text',), 256)

    Attributes:
        encoder: on the device, in evaluation mode.
        head: the module on top of it.
        tokenizer: at the head's maximum length.
        head_number: of the head among those of the model; None for vectors.
        record: the head's task, format, training languages and maximum length; None for vectors.
        format: the shape of the rows.
        max_length: the most tokens of a forward pass.
        notes: what a user should know of the model, such as that its threshold is not known.
    """

    def __init__(
        self, model: TrainedModel, head: int | None, *, thresholds: Mapping[str, float | None] | None = None,
        precision: Precision = "auto", layer: int | None = None,
    ) -> None:  # fmt: skip
        """Put a model on the device.

        Args:
            model: the encoder with its heads.
            head: the number of the head that predicts; None for vectors.
            thresholds: by language; see `model_folder.find_thresholds`.
            precision: of the forward passes.
            layer: the hidden state that vectors are pooled from; default: that of retrieval.
        """
        self.encoder, self._precision = encoders.for_inference(model.encoder), precision
        self.encoder.check_packing(precision)
        self.head_number = head
        self.record: HeadRecord | None = None if head is None else model.heads[head].record
        if self.record is None:
            self.format: Format = TextVectors(layer=layer)
            known = [one.record.max_length for one in model.heads]
            self.max_length = min(max(known, default=MAX_LENGTH), self.encoder.max_length)
            self.head = heads.build(self.format.head, self.encoder.config, None)
        else:
            self.format, self.max_length = self.record.format, self.record.max_length
            self.head = model.heads[head or 0].module
        self.head.to(self.encoder.device).eval()
        self.tokenizer = self.encoder.tokenizer_for(self.max_length)
        self._thresholds = thresholds or {}
        self.notes: list[str] = []

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels or tags that it predicts; empty for formats without labels."""
        return self.record.labels if self.record else ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that a row needs. A row to be tagged may have `words` instead of its `text`."""
        return (self.format.raw_text,) if self.format.raw_text else self.format.inputs

    def threshold(self, language: str) -> float | None:
        """The threshold for texts in a language: the head's own, else that of an evaluation in the run folder.

        A language without evaluation has that of the training language. None if there is no threshold.
        """
        if self.record is None or self.record.threshold is not None or not self._thresholds:
            return self.record.threshold if self.record else None
        codes = (language, *self.record.languages, ENGLISH)
        return next((self._thresholds[code] for code in codes if code in self._thresholds), None)

    def predict(self, inputs: Iterable[Input], *, language: str = ENGLISH, top: int = 5) -> Iterator[dict[str, Any]]:
        """Yield a prediction for each input, in order; read `LOOK_AHEAD` inputs ahead at most.

        Args:
            inputs: texts, or rows with the columns `inputs`; any iterable, also an endless one.
            language: of the texts. It selects the threshold, and the embeddings of some encoders.
            top: the most answers of a question.

        Returns:
            For each format a dictionary that JSON can hold: `label` and `probabilities`; `choice`, `ending` and
            `probabilities`; `tags` and `entities`; `answer`, its place and `answers`. For vectors `vector` is an array
            [H]. `truncated` is there, and true, if a part of the text was not read.

        Raises:
            DataError: an input lacks a column, is empty, or is no text; `where` has its number, from 1.

        >>> predictor = load("runs/best/reviews/my-reviews")  # doctest: +SKIP
        >>> [one["label"] for one in predictor.predict(["Nie wieder.", "Gern wieder!"])]  # doctest: +SKIP
        ['bad', 'good']
        """
        rows = (self.row(one, number) for number, one in enumerate(inputs, start=1))
        for group in groups(rows, LOOK_AHEAD, CHARACTERS):
            yield from self.results([self.example(row) for row in group], language=language, top=top)

    def row(self, given: Input, number: int) -> Row:
        """One input as a row; errors name its number."""
        if isinstance(given, Mapping):
            return Row(given, "input", number)
        texts = [given] if isinstance(given, str) else [*given]
        return Row(self.format.row_of(texts, f"input:{number}"), "input", number)

    def example(self, row: Row) -> Example:
        """The example of a row, whose label, if it has one, is ignored.

        Raises:
            DataError: the row lacks a column, or a text is empty or no text.
        """
        form = self.format
        has_words = bool(form.raw_text and {*form.inputs} & row.values.keys())
        inputs = form.inputs if has_words else self.inputs
        check_inputs(row, inputs, form.fields if inputs == form.inputs else inputs)
        label = () if form.fields[-1] in form.inputs else (form.fields[-1],)
        names = {*form.fields, *inputs, "id"}.difference(label) if self.record else {*inputs}
        values = {name: value for name, value in row.values.items() if name in names}
        return form.read(Row(values, row.file, row.line))

    def results(
        self, examples: Sequence[Example], *, language: str = ENGLISH, top: int = 5
    ) -> Sequence[dict[str, Any]]:
        """The predictions for some examples, computed together; `predict` says what they are."""
        if not examples:
            return []
        passes = list(self.format.features(examples, self.tokenizer))
        features = FeatureSet.of(passes, len(examples))
        outputs = head_outputs(self.encoder, self.head, self.format, features, self._precision, language)
        results = self.format.results(examples, outputs, self.threshold(language), top)
        for number in {one.example for one in passes if one.truncated}:
            results[number]["truncated"] = True
        return results

    def neighbours(
        self, texts: Iterable[Input], pool: Sequence[str], *, language: str = ENGLISH, top: int = 5
    ) -> Iterator[dict[str, Any]]:
        """Yield the `neighbours` of each text in a pool, by the cosine of vectors, in order; see `Pool`."""
        in_pool = Pool(self, pool, language)
        rows = (self.row(one, number) for number, one in enumerate(texts, start=1))
        for group in groups(rows, LOOK_AHEAD, CHARACTERS):
            yield from in_pool.neighbours([self.example(row) for row in group], language=language, top=top)


class Pool:
    """The vectors of the texts that neighbours are searched among, for a `Predictor` that makes vectors."""

    def __init__(self, predictor: Predictor, texts: Sequence[str], language: str = ENGLISH) -> None:
        """Make the vectors, float32 [N, H]; they stay in memory.

        Raises:
            DataError: the pool has no text, or an empty one.
        """
        if not texts:
            raise UserError("the pool has no text")
        if predictor.record is not None:
            raise UserError("neighbours need vectors", hint="load the model with xstilts.load(FOLDER, vectors=True)")
        self.texts, self._predictor = texts, predictor
        found = [one["vector"] for one in predictor.predict(texts, language=language)]
        self._vectors_FH: NDArray[np.float32] = np.zeros((len(texts) + LOOK_AHEAD, len(found[0])), np.float32)
        self._vectors_FH[: len(texts)] = found

    def neighbours(
        self, examples: Sequence[Example], *, language: str = ENGLISH, top: int = 5
    ) -> Sequence[dict[str, Any]]:
        """For each of at most `LOOK_AHEAD` texts its nearest ones: `text`, `index` from 0, and `cosine`."""
        from xstilts.compute.neighbours import neighbours

        results, pool = self._predictor.results(examples, language=language), len(self.texts)
        if not results:
            return []
        self._vectors_FH[pool : pool + len(results)] = [one.pop("vector") for one in results]
        query_N = np.arange(pool, pool + len(results))
        nearest_of, _ = neighbours(self._vectors_FH, query_N, np.arange(pool), top)
        for result, ids, cosines in zip(results, *(part.tolist() for part in nearest_of), strict=True):
            result["neighbours"] = [
                {"text": self.texts[id], "index": id, "cosine": round(cosine, 4)}
                for id, cosine in zip(ids, cosines, strict=True)
            ]
        return results


def load(
    folder: str | Path, *, task: str | None = None, vectors: bool = False, precision: Precision = "auto"
) -> Predictor:
    """Load a trained model to predict with it.

    Args:
        folder: a step's folder or a copy of it, a link `runs/best/RECIPE/TASK`, the id of a step in `runs`; for vectors
            also any encoder, as a folder or Hub id.
        task: the task whose head predicts, if the model has several.
        vectors: make vectors of texts instead, as retrieval does.
        precision: of the forward passes; `bf16` is faster on a GPU, and rounds.

    Raises:
        UserError: the folder is not of a trained model, or of another version, not finished or not whole; no head, or
            several.

    >>> next(load("runs/best/reviews/my-reviews").predict(["Gern wieder!"]))  # doctest: +SKIP
    {'label': 'good', 'probabilities': {'bad': 0.1564, 'good': 0.8436}}
    """
    name = encoder_of(str(folder), None)
    if not vectors and not Path(name).exists():  # it is no Hub id, which would have no head
        beside = Path(name).parent
        names = [one.name for one in beside.iterdir()] if beside.is_dir() else []
        raise UserError("no such folder", where=name, hint=nearest(Path(name).name, names))
    model = load_model(name)
    if vectors:
        return Predictor(model, None, precision=precision)
    head = _head(model, task, name)
    record, thresholds = model.heads[head].record, dict[str, float | None]()
    if getattr(record.format, "no_answer", False) and record.threshold is None:
        thresholds = find_thresholds(Path(name), head, record.task)
    predictor = Predictor(model, head, thresholds=thresholds, precision=precision)
    if getattr(record.format, "no_answer", False) and predictor.threshold(ENGLISH) is None:
        why = "evaluations of an earlier version do not say it" if thresholds else "no evaluation lies beside it"
        predictor.notes.append(f"{name}: the threshold for no answer is not known, so it is 0 ({why})")
    return predictor


def _head(model: TrainedModel, task: str | None, name: str) -> int:
    """The number of the head that predicts.

    Raises:
        UserError: the model has no such head, or several.
    """
    numbers = {head.record.task: i for i, head in enumerate(model.heads) if head.record.format.head.trained}
    if not numbers:
        hint = "give a step that was trained on a task, --vectors, or --pool FILE for neighbours"
        raise UserError("has no head that predicts labels", where=name, hint=hint)
    if task is None and len(numbers) > 1:
        raise UserError("has several heads", where=name, hint=f"choose one: --task {' or '.join(numbers)}")
    if task is not None and task not in numbers:
        raise UserError(f"has no head of the task '{task}'", where=name, hint=nearest(task, numbers))
    return numbers[next(iter(numbers)) if task is None else task]


def groups(rows: Iterable[Row], most: int, characters: int) -> Iterator[list[Row]]:
    """Groups of successive rows, at most `most` with so many `characters` together, but at least one row."""
    group, size = list[Row](), 0
    for row in rows:
        own = row_size(row)
        if group and (len(group) == most or size + own > characters):
            yield group
            group, size = [], 0
        group.append(row)
        size += own
    if group:
        yield group


def row_size(row: Row) -> int:
    """The characters of a row's texts."""
    return sum(map(_size, row.values.values()))


def _size(value: Any) -> int:
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return len(value) if isinstance(value, str) else 8
