"""Runs a plan: does the steps that are not done yet, after everything the user gave has been checked."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from xstilts import device, encoder, heads
from xstilts.data.examples import Batchable, check
from xstilts.encoder import Encoder
from xstilts.errors import Collector, StepFailed, UserError
from xstilts.evaluate import evaluate
from xstilts.features import FeatureSet, stored
from xstilts.heads import Head
from xstilts.intake import Intake
from xstilts.plan import Plan, Step
from xstilts.progress import Progress
from xstilts.results import Prediction, Score, means, write_atomic, write_rows
from xstilts.scratch import create
from xstilts.store import Store, opened, told, usable
from xstilts.task import Format, Split
from xstilts.train import Learning, Logged, train

SPLITS: tuple[Split, ...] = ("dev", "test")


@dataclass
class Outcome:
    """What a run did."""

    done: int = 0
    failed: dict[str, StepFailed] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    """Steps that start from a failed one."""


@dataclass
class _Ready:
    """An encoder with the heads it was trained with, and the step it is of."""

    step: str | None
    encoder: Encoder
    heads: list[Head]


@dataclass
class Run:
    """One run of a plan over a store."""

    plan: Plan
    store: Store
    intake: Intake
    progress: Progress
    outcome: Outcome = field(default_factory=Outcome)
    read: dict[str, list[str]] = field(default_factory=dict)
    """What `check` has read, and said of it."""
    _ready: _Ready | None = None

    def pending(self) -> list[Step]:
        """The steps that are not done, and those that start from such a one: these are to be done again."""
        left: dict[str, Step] = {}
        for step in self.plan.steps.values():
            if step.parent in left or not self.store.done(step.id):
                left[step.id] = step
        return list(left.values())

    # --- before anything is written -------------------------------------------------------------------------------

    def check(self, pending: Sequence[Step]) -> None:
        """Read all that the pending steps will read.

        Raises:
            UserError: everything that is wrong with data and encoder.
        """
        found = Collector()
        for note in self.plan.notes:
            self.progress.say(note)
        with found.catch():
            device.device()
        for step in self.plan.steps.values():
            if step not in pending:
                now: dict[str, str] = {}
                for batchable, _ in self.intake.inputs([step], Collector()):  # files that are gone are not missed
                    now |= batchable.files
                now |= self.intake.encoder_files(step)
                with found.catch():
                    self.store.unchanged(step.id, now)
        roots = [step for step in pending if step.parent is None and step.kind != "create"]
        if roots:
            with found.catch():
                self._check_encoder(roots)
        self._check_data(pending, found)
        found.raise_any()

    def _check_data(self, pending: Sequence[Step], found: Collector) -> None:
        """Read the data that were not read before as they are now; mistakes go to `found`."""
        said: set[str] = set()
        noted = self.store.read()

        def say(line: str) -> None:  # dev examples are read twice, to stop by and to be scored
            if line not in said:
                said.add(line)
                self.progress.say(line)

        for batchable, needs_labels in self.intake.inputs(pending, found):
            with found.catch():
                key = batchable.key(labels=needs_labels)
                if key not in noted:
                    lines: list[str] = []
                    check(batchable, lines.append, labels=needs_labels)
                    noted[key] = self.read[key] = lines
                for line in noted[key]:
                    say(line)

    def _check_encoder(self, roots: Sequence[Step]) -> None:
        name = self.intake.encoder_name(roots[0])
        if "{data}" in name:
            raise UserError(
                "the recipe's encoder lies beside the data folder",
                where=name,
                hint="give the data folder with --data or XSTILTS_DATA",
            )
        self._ready = _Ready(None, encoder.load(name, remote_code=self.plan.recipe.trust_remote_code is not None), [])
        loaded = self._ready.encoder
        if loaded.notes:
            self.progress.say(f"{name}: {loaded.notes}")
        masked = [
            part.task
            for step in self.plan.steps.values()
            for part in step.parts
            if self.plan.tasks[part.task].format.head.kind == "vocabulary"
        ]
        for lacks, what in ((loaded.vocabulary, "language-model head"), (loaded.tokenizer.mask_token_id, "mask token")):
            if masked and lacks is None:
                raise UserError(f"has no {what}, which the task '{masked[0]}' needs", where=name)
        layers = [self.plan.tasks[c.task].format.head.layer for c in self.plan.cells]
        deepest = max((layer for layer in layers if layer is not None), default=0)
        if deepest > loaded.layers:
            raise UserError(f"has {loaded.layers} layers; a task pools hidden state {deepest}", where=name)

    # --- the steps ------------------------------------------------------------------------------------------------

    def do(self, step: Step) -> None:
        """Do one step and mark it as finished."""
        folder = self.store.begin(step.id)
        write_atomic(folder / "step.json", json.dumps(step.row(), indent=1, ensure_ascii=False) + "\n")
        started = time.perf_counter()
        facts = {"create": self._create, "train": self._train, "evaluate": self._evaluate}[step.kind](step, folder)
        self.store.finish(step.id, facts | {"seconds": round(time.perf_counter() - started, 2)})
        self.outcome.done += 1

    def _create(self, step: Step, folder: Path) -> dict[str, object]:
        assert step.new is not None
        task = self.plan.tasks[step.new.text]
        text = self.intake.train_set(task)
        made = create(step.new, text.stream())
        made.save(folder / "encoder")
        self.progress.end(f"{sum(p.numel() for p in made.parameters()):,} parameters")
        return {"inputs": text.files}

    def _train(self, step: Step, folder: Path) -> dict[str, object]:
        assert step.training is not None and step.seed is not None
        training, ready = step.training, self._take(step)
        device.seed(step.seed)
        inputs = self.intake.encoder_files(step)
        learning, looks = [], []
        for part in training.parts:
            task = self.intake.task(part.task)
            rows = self.intake.train_set(task)
            inputs |= rows.files
            head = heads.build(task.format.head, ready.encoder.config, ready.encoder.vocabulary).to(device.device())
            masking = ready.encoder.masking() if task.format.head.kind == "vocabulary" else None
            learning.append(
                Learning(part, head, self._features(ready.encoder, task.format, rows, part.max_length), masking)
            )
            stop = self.intake.stop_set(task)
            if stop is None and masking is None:
                self.progress.say(f"{task.name}: no dev examples in the training language, so no early stopping")
            if stop is not None:
                inputs |= stop.files
                looks.append(
                    (task, head, stop.read(), self._features(ready.encoder, task.format, stop, part.max_length))
                )

        def dev() -> float:
            values = [
                evaluate(
                    ready.encoder,
                    head,
                    task.format,
                    (task.stop_metric,),
                    examples,
                    features,
                    language=task.train_languages[0],
                    precision=training.precision,
                    tune=True,
                ).scores[task.stop_metric]
                for task, head, examples, features in looks
            ]
            return sum(values) / len(values)

        with (folder / "log.jsonl").open("w", encoding="utf-8") as stream:

            def log(line: Logged) -> None:
                row = {key: value for key, value in dataclasses.asdict(line).items() if value is not None}
                stream.write(json.dumps(row) + "\n")
                stream.flush()
                left = line.seconds / line.step * (line.total - line.step)
                dev_score = f", dev {line.dev:.1f}" if line.dev is not None else ""
                speed = f", {line.examples_per_second:,.0f} examples/s" if line.examples_per_second else ""
                self.progress.at(line.step, line.total, f"loss {line.loss:.3f}{speed}{dev_score}", left)

            trained = train(ready.encoder, learning, training, seed=step.seed, dev=dev if looks else None, log=log)
        ready.encoder.save(folder / "encoder")
        for i, learned in enumerate(learning):
            if learned.masking is None:
                save_file(learned.head.state_dict(), folder / f"head-{i}.safetensors")
        self._ready = _Ready(step.id, ready.encoder, [learned.head for learned in learning])
        best = "" if trained.best is None else f", dev {trained.best:.1f} at update {trained.best_update:,}"
        self.progress.end(f"{trained.updates:,} updates in {trained.seconds:.0f} s{best}")
        return {"inputs": inputs, "updates": trained.updates, "best_update": trained.best_update, "dev": trained.best}

    def _evaluate(self, step: Step, folder: Path) -> dict[str, object]:
        assert step.scoring is not None
        ready = self._at(step)
        task, scoring = self.intake.task(step.scoring.task), step.scoring
        head = heads.build(task.format.head, ready.encoder.config, ready.encoder.vocabulary).to(device.device())
        if scoring.head is not None:
            head.load_state_dict(ready.heads[scoring.head].state_dict())
        head.eval()
        inputs = self.intake.encoder_files(step)
        predictions: list[Prediction] = []
        scores: list[Score] = []
        for k, language in enumerate(scoring.languages):
            self.progress.at(k, len(scoring.languages), language)
            threshold = None
            for split, rows in self.intake.scored(step, language).items():
                examples, inputs = rows.read(), inputs | rows.files
                features = self._features(ready.encoder, task.format, rows, scoring.max_length)
                result = evaluate(
                    ready.encoder,
                    head,
                    task.format,
                    task.metrics,
                    examples,
                    features,
                    language=language,
                    precision=scoring.precision,
                    threshold=threshold,
                    tune=split == "dev",
                )
                threshold = result.threshold
                answers = zip(result.indices, result.predictions, result.references, strict=True)
                for i, prediction, reference in answers:
                    id = task.format.id(examples[i], i)
                    predictions.append(Prediction(task.name, language, split, i, id, prediction, reference))
                n = len(result.indices)
                scores += [
                    Score(task.name, language, split, metric, value, n, step.id, step.encoder, step.seed)
                    for metric, value in result.scores.items()
                ]
                if not result.scores:
                    self.progress.say(
                        f"{task.name} {language} {split}: this split has no labels; predicted, not scored"
                    )
        write_rows(folder / "predictions.jsonl", predictions)
        write_rows(folder / "scores.jsonl", scores)
        said = means(scores, task.metric, SPLITS)
        self.progress.end(f"{task.metric} {said}" if said else "nothing to score")
        return {"inputs": inputs}

    def _features(self, model: Encoder, format: Format, rows: Batchable, max_length: int) -> FeatureSet:
        pieces = model.pieces(max_length)
        return stored(self.store.features, format, pieces, model.tokenizer_digest(), rows.content, rows.drawn)

    def _at(self, step: Step) -> _Ready:
        """The encoder that a step starts from, in evaluation mode; the last one used is kept."""
        if self._ready is None or self._ready.step != step.parent:
            self._ready = None
            if step.parent is None:
                recipe = self.plan.recipe
                loaded = encoder.load(self.intake.encoder_name(step), remote_code=recipe.trust_remote_code is not None)
                self._ready = _Ready(None, loaded, [])
            else:
                self._ready = self._load(self.plan.steps[step.parent])
        self._ready.encoder.to(device.device()).eval()
        device.spread(self._ready.encoder.config.hidden_size)
        return self._ready

    def _take(self, step: Step) -> _Ready:
        """The same, to be changed by training."""
        ready, self._ready = self._at(step), None
        return ready

    def _load(self, parent: Step) -> _Ready:
        folder = self.store.step(parent.id)
        again = f"delete {folder} and run again"
        try:
            model = encoder.load(str(folder / "encoder"))
        except UserError as error:
            raise UserError(error.what, where=error.where, hint=again) from error
        made = []
        for i, part in enumerate(parent.parts):
            spec = self.intake.task(part.task).format.head
            head = heads.build(spec, model.config, model.vocabulary)
            if spec.trained:
                path = folder / f"head-{i}.safetensors"
                try:
                    head.load_state_dict(load_file(path))
                except (OSError, SafetensorError) as error:
                    raise UserError(f"the weights cannot be read: {error}", where=str(path), hint=again) from error
            made.append(head)
        return _Ready(parent.id, model, made)


def run(plan: Plan, out: Path, data: Path | None, progress: Progress) -> Outcome:
    """Do what is not done yet.

    Everything the user gave is checked before the run folder is made. A step that fails (its loss is not a number) is
    left out with those that start from it, and the others go on.

    Raises:
        UserError: anything wrong with the data, the encoder or the run folder; a full disk.
    """
    with told(out, SafetensorError):
        store = usable(out)
        job = Run(plan, store, Intake(plan, data), progress)
        job.check(job.pending())
        with opened(store):
            store.sweep()
            store.note_read(job.read)
            if store.save_study(plan.study()):
                progress.say(f"the report now shows this recipe, not the earlier one named '{plan.recipe.name}'")
            _do_all(job)
    if job.intake.missing:
        progress.say(f"left out, for there are no files: {', '.join(job.intake.missing)}")
    return job.outcome


def _do_all(job: Run) -> None:
    pending = job.pending()  # again, for another run may have done some before this one held the folder
    for number, step in enumerate(pending, start=1):
        if step.parent in job.outcome.failed or step.parent in job.outcome.skipped:
            job.outcome.skipped.append(step.id)
            continue
        job.progress.step(number, len(pending), step.name)
        try:
            job.do(step)
        except StepFailed as failure:
            job.outcome.failed[step.id] = failure
            job.progress.end(str(failure))
