"""Estimates how long a plan takes on this machine, from a few updates and forward passes of each kind."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from xstilts.compute import device
from xstilts.data.examples import LocatedSplit
from xstilts.execution.inputs import StepInputs
from xstilts.execution.steps import Resources, StepExecutor
from xstilts.formats.base import ClassificationHead, Example, Format
from xstilts.formats.pooling import Pooling, select
from xstilts.languages import ENGLISH
from xstilts.model import forward, heads
from xstilts.model.encoder import Encoder, for_inference, load
from xstilts.model.features import FeatureSet
from xstilts.store.run_folder import Store
from xstilts.study.plan import Plan
from xstilts.study.step import EvalSpec, Step
from xstilts.training.batches import TrainTask
from xstilts.training.early_stopping import dev_sizes, evaluation_interval
from xstilts.training.log import LogRow
from xstilts.training.loop import examples_seen, train
from xstilts.training.sampling import schedule
from xstilts.training.settings import TaskSettings, TrainSpec
from xstilts.utils.models import Precision
from xstilts.utils.progress import Progress

UPDATES, WARM_UP = 4, 2
"""Updates that are measured, and the warm-up updates before them."""
EXAMPLES, LANGUAGES = 64, 3
"""The examples per language, and languages per task, on which scoring is measured."""


@dataclass(frozen=True)
class Measurement:
    """Seconds of one update, or of one scored example, and the number of examples."""

    what: str
    seconds: float
    examples: int


@dataclass
class TimeEstimate:
    """Hours of a plan on this machine with one worker, without early stopping."""

    training: float = 0.0
    scoring: float = 0.0
    measurements: list[Measurement] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As `xstilts plan --probe --json` prints it, under `hours`."""
        measurements = [vars(one) for one in self.measurements]
        return {"training": self.training, "scoring": self.scoring, "measured": measurements}

    def lines(self) -> Iterator[str]:
        """The same as lines of text."""
        for one in self.measurements:
            yield f"{one.what}: {1000 * one.seconds:,.1f} ms; {one.examples:,} examples"
        total = self.training + self.scoring
        yield (
            f"time: about {_format_hours(total)} on this machine with one worker, less if trainings stop early: "
            f"trainings {_format_hours(self.training)}, scoring {_format_hours(self.scoring)}; reading data, starting "
            "each step and searching for translations are not included"
        )


def estimate_time(plan: Plan, data: Path | None, progress: Progress) -> TimeEstimate:
    """Measure each kind of work in the plan once; writes only to a temporary folder.

    Raises:
        UserError: data or an encoder is missing.
    """
    estimate = TimeEstimate()
    for part in plan.by_encoder.values():
        with tempfile.TemporaryDirectory() as folder:
            _Profiler(
                part, StepExecutor(part, Store(Path(folder)), StepInputs(part, data), progress, Resources()), estimate
            ).measure()
    return estimate


@dataclass
class _Profiler:
    """Measures the work in the plan of one encoder, each kind once."""

    plan: Plan
    executor: StepExecutor
    estimate: TimeEstimate
    updates: dict[str, Measurement] = field(default_factory=dict)
    dev_evaluations: dict[str, Measurement] = field(default_factory=dict)
    evaluations: dict[str, float] = field(default_factory=dict)

    def measure(self) -> None:
        self.encoder = self.load_encoder()
        for step in self.plan.steps.values():
            if step.training is not None:
                self.estimate.training += self.training_seconds(step, step.training) / 3600
            if step.scoring is not None:
                self.estimate.scoring += self.scoring_seconds(step, step.scoring) / 3600

    def load_encoder(self) -> Encoder:
        """The encoder that the plan starts from."""
        root = next(step for step in self.plan.steps.values() if not step.parents)
        if root.new is not None:
            self.executor.do(root)
        encoder = (
            load(str(self.executor.store.step(root.id) / "encoder"))
            if root.new is not None
            else self.executor.load_pretrained(root)
        )
        return for_inference(encoder)

    # --- trainings ------------------------------------------------------------------------------------------------

    def training_seconds(self, step: Step, training: TrainSpec) -> float:
        """Seconds of a training."""
        measurements = [self.measure_update(part, training) for part in training.parts]
        order_U = schedule(training.parts, [one.examples for one in measurements], training, step.seed or 0)
        counts, total = Counter(order_U.tolist()), len(order_U)
        sizes, batches = [one.examples for one in measurements], [part.batch for part in training.parts]
        seen = examples_seen(sizes, batches, order_U)
        dev = [self.dev_evaluation(part, training) for part in training.parts]
        scored = dev_sizes(training, seen, [one.examples for one in dev])
        dev_seconds = sum(one.seconds * size for one, size in zip(dev, scored, strict=True))
        dev_evaluations = -(-total // evaluation_interval(training, total, seen, sum(scored)))
        return sum(measurements[i].seconds * count for i, count in counts.items()) + dev_seconds * dev_evaluations

    def measure_update(self, part: TaskSettings, training: TrainSpec) -> Measurement:
        """Measure an update of one task."""
        drawn = f", {part.shots} drawn" if part.shots else ""
        key = f"update of {part.task}, batch {part.batch}, {training.precision}{drawn}"
        if key not in self.updates:
            self.executor.progress.say(f"measuring: {key}")
            task = self.executor.inputs.task(part.task)
            rows = self.executor.inputs.train_set(task, training).drawing(part.shots, 0)
            size = sum(number for _, number in rows.sampled())
            seconds: list[float] = []

            def log(line: LogRow) -> None:
                seconds.append(line.seconds)

            features = self.features(task.format, evenly_spaced(rows.stream(), size, part.batch * 2), part.max_length)
            language = task.train_languages[0] if len(task.train_languages) == 1 else ENGLISH
            masking = self.encoder.masking() if task.format.head.kind == "vocabulary" else None
            train_task = TrainTask(part, self.head(task.format, training.head), features, masking, language)
            short_spec = training.model_copy(
                update={"parts": (part,), "steps": WARM_UP + UPDATES, "mixing": None, "snapshots": None}
            )
            train(self.encoder, [train_task], short_spec, seed=1, dev=None, log=log)
            per_update = (seconds[-1] - seconds[WARM_UP - 1]) / UPDATES
            self.updates[key] = Measurement(key, per_update, size)
            self.estimate.measurements.append(self.updates[key])
        return self.updates[key]

    def dev_evaluation(self, part: TaskSettings, training: TrainSpec) -> Measurement:
        """Measure the scoring of a task's dev examples."""
        task = self.executor.inputs.task(part.task)
        key = f"{part.task} {part.max_length} {training.precision} {training.weights}"
        if key not in self.dev_evaluations:
            rows = self.executor.inputs.stop_set(task, training)
            size = sum(1 for _ in rows.stream()) if rows is not None else 0
            sample = evenly_spaced(rows.stream(), size, EXAMPLES) if rows is not None else []
            per_example = (
                self.forward_seconds(task.format, sample, part.max_length, training.precision) if sample else 0.0
            )
            self.dev_evaluations[key] = Measurement(key, per_example, size)
        return self.dev_evaluations[key]

    # --- scoring --------------------------------------------------------------------------------------------------

    def scoring_seconds(self, step: Step, scoring: EvalSpec) -> float:
        """Seconds of the forward passes of an evaluation."""
        poolings = select(scoring.poolings, scoring.score_layers, self.encoder.layers)
        settings = scoring.max_length, scoring.precision, scoring.limit, *poolings
        key = f"scoring of {scoring.task}, {', '.join(map(str, settings))}"
        if key not in self.evaluations:
            self.executor.progress.say(f"measuring: {key.split(',')[0]}")
            task = self.executor.inputs.task(scoring.task)
            rows = [rows for language in scoring.languages
                    for rows in self.executor.inputs.eval_splits(step, language).values()]  # fmt: skip
            sizes = [sum(1 for _ in one.stream()) for one in rows]
            chosen = list(zip(rows, sizes, strict=True))[:: max(1, len(rows) // LANGUAGES)]
            how = scoring.max_length, scoring.precision, poolings
            each = [self.forward_seconds(task.format, _sample(one, size), *how) for one, size in chosen]
            measurement = Measurement(key.split(",")[0] + ", an example", sum(each) / max(1, len(each)), sum(sizes))
            self.estimate.measurements.append(measurement)
            self.evaluations[key] = measurement.seconds * measurement.examples
        return self.evaluations[key]

    def forward_seconds(
        self, format: Format, sample: Sequence[Example], max_length: int, precision: Precision,
        poolings: Sequence[Pooling] = (),
    ) -> float:  # fmt: skip
        """Seconds per example of the forward passes."""
        features = self.features(format, sample, max_length)
        head = self.head(format).eval()
        self.encoder.eval()
        for _ in range(2):  # the first pass is the warm-up
            started = time.perf_counter()
            if poolings:
                list(forward.pooled_outputs(self.encoder, features, poolings, precision))
            else:
                forward.head_outputs(self.encoder, head, format, features, precision)
        return (time.perf_counter() - started) / max(1, len(sample))

    def features(self, format: Format, sample: Sequence[Example], max_length: int) -> FeatureSet:
        return FeatureSet.build(format, sample, self.encoder.tokenizer_for(max_length))

    def head(self, format: Format, kind: ClassificationHead | None = None) -> heads.Head:
        head = heads.build(format.head, self.encoder.config, self.encoder.vocabulary, kind or "stock")
        return head.to(device.device())


def evenly_spaced(examples: Iterable[Example], size: int, wanted: int) -> list[Example]:
    """Take `wanted` of `size` examples, evenly spaced.

    >>> evenly_spaced("abcdefghij", 10, 5)
    ['a', 'c', 'e', 'g', 'i']
    """
    return list(islice(examples, 0, None, max(1, size // wanted)))[:wanted]


def _sample(rows: LocatedSplit, size: int) -> list[Example]:
    return evenly_spaced(rows.stream(), size, EXAMPLES)


def _format_hours(hours: float) -> str:
    """A duration in hours, in minutes below one hour, in seconds below two minutes.

    >>> _format_hours(2.345), _format_hours(0.25), _format_hours(0.02)
    ('2.3 hours', '15 minutes', '72 seconds')
    """
    if hours >= 1:
        return f"{hours:,.1f} hours"
    return f"{60 * hours:.0f} minutes" if hours >= 2 / 60 else f"{3600 * hours:.0f} seconds"
