"""How long a plan takes on this machine: a few updates and a few forward passes of each kind, and what follows."""

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
from xstilts.formats.base import Example, Format
from xstilts.languages import ENGLISH
from xstilts.model import forward, heads
from xstilts.model.encoder import Encoder, for_inference, load
from xstilts.model.features import FeatureSet
from xstilts.store.run_folder import Store
from xstilts.study.plan import Plan
from xstilts.study.step import EvalSpec, Step
from xstilts.training.early_stopping import evaluation_interval
from xstilts.training.log import LogRow
from xstilts.training.loop import TrainTask, train
from xstilts.training.sampling import schedule
from xstilts.training.settings import TaskSettings, TrainSpec
from xstilts.utils.progress import Progress

UPDATES, FIRST = 4, 2
"""Updates that are measured, after some that are not: the first ones wait for kernels to be made."""
EXAMPLES, LANGUAGES = 64, 3
"""Examples of a language, and languages of a task, whose scoring is measured."""


@dataclass(frozen=True)
class Pace:
    """What one kind of work takes: seconds for an update or for an example, and how many examples there are."""

    what: str
    seconds: float
    examples: int


@dataclass
class Hours:
    """What a plan takes on this machine with one worker; early stopping may end trainings sooner."""

    training: float = 0.0
    scoring: float = 0.0
    paces: list[Pace] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As `xstilts plan --probe --json` prints it, under `hours`."""
        paces = [vars(pace) for pace in self.paces]
        return {"training": self.training, "scoring": self.scoring, "measured": paces}

    def lines(self) -> Iterator[str]:
        """The same for people."""
        for pace in self.paces:
            yield f"{pace.what}: {1000 * pace.seconds:,.1f} ms; {pace.examples:,} examples"
        total = self.training + self.scoring
        yield (
            f"time: about {_hours(total)} on this machine with one worker, less where trainings stop early: trainings "
            f"{_hours(self.training)}, scoring {_hours(self.scoring)}; reading data, the beginning of each step and "
            "searching for translations come on top"
        )


def probe(plan: Plan, data: Path | None, progress: Progress) -> Hours:
    """Measure each kind of work that the plan has, once; nothing is written but into a temporary folder.

    Raises:
        UserError: data or encoders that are not there.
    """
    made = Hours()
    for part in plan.parts.values() or [plan]:
        with tempfile.TemporaryDirectory() as folder:
            _Probe(
                part, StepExecutor(part, Store(Path(folder)), StepInputs(part, data), progress, Resources()), made
            ).measure()
    return made


@dataclass
class _Probe:
    """The kinds of work that were measured already, of the plan of one encoder."""

    plan: Plan
    executor: StepExecutor
    made: Hours
    updates: dict[str, Pace] = field(default_factory=dict)
    looks: dict[str, float] = field(default_factory=dict)
    scored: dict[str, float] = field(default_factory=dict)

    def measure(self) -> None:
        self.encoder = self.start()
        for step in self.plan.steps.values():
            if step.training is not None:
                self.made.training += self.trained(step, step.training) / 3600
            if step.scoring is not None:
                self.made.scoring += self.score(step, step.scoring) / 3600

    def start(self) -> Encoder:
        """The encoder that the plan starts from."""
        root = next(step for step in self.plan.steps.values() if not step.parents)
        if root.new is not None:
            self.executor.do(root)
        own = (
            load(str(self.executor.store.step(root.id) / "encoder"))
            if root.new is not None
            else self.executor.own(root)
        )
        return for_inference(own)

    # --- trainings ------------------------------------------------------------------------------------------------

    def trained(self, step: Step, training: TrainSpec) -> float:
        """Seconds of a training."""
        paces = [self.update(part, training) for part in training.parts]
        labelled = [i for i, part in enumerate(training.parts) if self.form(part).head.kind != "vocabulary"]
        order_U = schedule(training.parts, [pace.examples for pace in paces], labelled, training, step.seed or 0)
        counts, total = Counter(order_U.tolist()), len(order_U)
        looking = sum(self.look(part, training) for part in training.parts)
        looks = -(-total // evaluation_interval(training, total))
        return sum(paces[i].seconds * count for i, count in counts.items()) + looking * looks

    def form(self, part: TaskSettings) -> Format:
        return self.executor.inputs.task(part.task).format

    def update(self, part: TaskSettings, training: TrainSpec) -> Pace:
        """One update of one task."""
        key = f"update of {part.task}, batch {part.batch}, {training.precision}"
        if key not in self.updates:
            self.executor.progress.say(f"measuring: {key}")
            task = self.executor.inputs.task(part.task)
            rows = self.executor.inputs.train_set(task)
            size = sum(number for _, number in rows.drawn())
            seconds: list[float] = []

            def log(line: LogRow) -> None:
                seconds.append(line.seconds)

            features = self.features(task.format, spread(rows.stream(), size, part.batch * 2), part.max_length)
            language = task.train_languages[0] if len(task.train_languages) == 1 else ENGLISH
            masking = self.encoder.masking() if task.format.head.kind == "vocabulary" else None
            learning = TrainTask(part, self.head(task.format), features, masking, language)
            short = training.model_copy(
                update={"parts": (part,), "steps": FIRST + UPDATES, "mixing": None, "snapshots": None}
            )
            train(self.encoder, [learning], short, seed=1, dev=None, log=log)
            pace = (seconds[-1] - seconds[FIRST - 1]) / UPDATES
            self.updates[key] = Pace(key, pace, size)
            self.made.paces.append(self.updates[key])
        return self.updates[key]

    def look(self, part: TaskSettings, training: TrainSpec) -> float:
        """Seconds of one look at a task's dev examples."""
        task = self.executor.inputs.task(part.task)
        key = f"{task.name} {part.max_length} {training.precision}"
        if key not in self.looks:
            rows = self.executor.inputs.stop_set(task)
            size = sum(1 for _ in rows.stream()) if rows is not None else 0
            some = spread(rows.stream(), size, EXAMPLES) if rows is not None else []
            each = self.passes(task.format, some, part.max_length, training.precision) if some else 0.0
            self.looks[key] = each * size
        return self.looks[key]

    # --- scoring --------------------------------------------------------------------------------------------------

    def score(self, step: Step, scoring: EvalSpec) -> float:
        """Seconds of the forward passes of an evaluation."""
        key = f"scoring of {scoring.task}, {scoring.max_length}, {scoring.precision}, {scoring.limit}"
        if key not in self.scored:
            self.executor.progress.say(f"measuring: {key.split(',')[0]}")
            task = self.executor.inputs.task(scoring.task)
            rows = [rows for language in scoring.languages
                    for rows in self.executor.inputs.scored(step, language).values()]  # fmt: skip
            sizes = [sum(1 for _ in one.stream()) for one in rows]
            chosen = list(zip(rows, sizes, strict=True))[:: max(1, len(rows) // LANGUAGES)]
            each = [self.passes(task.format, _first(one, size), scoring.max_length, scoring.precision)
                    for one, size in chosen]  # fmt: skip
            pace = Pace(key.split(",")[0] + ", an example", sum(each) / max(1, len(each)), sum(sizes))
            self.made.paces.append(pace)
            self.scored[key] = pace.seconds * pace.examples
        return self.scored[key]

    def passes(self, form: Format, some: Sequence[Example], max_length: int, precision: device.Precision) -> float:
        """Seconds of an example's forward passes."""
        features = self.features(form, some, max_length)
        head = self.head(form).eval()
        self.encoder.eval()
        for _ in range(2):  # the first time kernels are made
            started = time.perf_counter()
            forward.head_outputs(self.encoder, head, form, features, precision)
        return (time.perf_counter() - started) / max(1, len(some))

    def features(self, form: Format, some: Sequence[Example], max_length: int) -> FeatureSet:
        return FeatureSet.build(form, some, self.encoder.tokenizer_for(max_length))

    def head(self, form: Format) -> heads.Head:
        return heads.build(form.head, self.encoder.config, self.encoder.vocabulary).to(device.device())


def spread(examples: Iterable[Example], size: int, wanted: int) -> list[Example]:
    """So many of `size` examples, evenly spaced.

    >>> spread("abcdefghij", 10, 5)
    ['a', 'c', 'e', 'g', 'i']
    """
    return list(islice(examples, 0, None, max(1, size // wanted)))[:wanted]


def _first(rows: LocatedSplit, size: int) -> list[Example]:
    return spread(rows.stream(), size, EXAMPLES)


def _hours(hours: float) -> str:
    """Hours, minutes where it is less than one, seconds where it is less than two minutes.

    >>> _hours(2.345), _hours(0.25), _hours(0.02)
    ('2.3 hours', '15 minutes', '72 seconds')
    """
    if hours >= 1:
        return f"{hours:,.1f} hours"
    return f"{60 * hours:.0f} minutes" if hours >= 2 / 60 else f"{3600 * hours:.0f} seconds"
