"""Does each kind of step: create, train, merge, evaluate."""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import torch
import transformers

from xstilts.compute import device, distributed, memory, peak_memory
from xstilts.data.examples import LocatedSplit
from xstilts.errors import DataError, OutOfMemory, UserError
from xstilts.execution.ensemble import average_predictions
from xstilts.execution.evaluator import SPLITS, EvalSplit, Evaluator
from xstilts.execution.inputs import StepInputs
from xstilts.execution.precision import EARLIER, precision_of
from xstilts.formats.base import Example, Format
from xstilts.languages import ENGLISH
from xstilts.model import encoder as encoders
from xstilts.model import heads
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet, key, stored
from xstilts.model.heads import Head
from xstilts.model.merging import link, merge
from xstilts.model.new_encoder import create, given
from xstilts.model.trained import HeadRecord, TrainedHead, TrainedModel, copy_records
from xstilts.store.label_notes import not_found_line
from xstilts.store.rows import means, write_rows
from xstilts.store.run_folder import Store
from xstilts.store.step_record import StepState
from xstilts.study.plan import Plan
from xstilts.study.step import Step
from xstilts.tasks.task import Task
from xstilts.training.batches import TrainTask
from xstilts.training.checkpoint import Checkpoint
from xstilts.training.early_stopping import DevSet, dev_outcome, dev_score, dev_sizes
from xstilts.training.likely_cause import has_one_answer, has_one_label, likely_cause, small_dev
from xstilts.training.log import LogRow
from xstilts.training.loop import TOKENS, examples_seen, task_order, train, warmup_notes
from xstilts.training.settings import LOG, TrainSpec
from xstilts.translate.card import cards_of
from xstilts.utils.background import check_stopped
from xstilts.utils.files import digest
from xstilts.utils.progress import Progress
from xstilts.utils.version import __version__


@dataclass(frozen=True)
class Resources:
    """Resources and options of a run; they change no scores, except for the rounding of `compile`."""

    minutes: float = 10.0
    """Minutes between two checkpoints of a training."""
    tokens: int | None = None
    """Most tokens in one pass; larger batches are split. None: the defaults of training and evaluation."""
    compile: bool = False
    """Whether torch compiles the forward pass of trainings; results are rounded differently."""
    with_text: bool = False
    """Whether predictions get the texts of their examples."""


@dataclass
class StepExecutor:
    """Does the steps of a plan one at a time; keeps the last model in memory for the next step."""

    plan: Plan
    store: Store
    inputs: StepInputs
    progress: Progress
    resources: Resources
    _model: TrainedModel | None = None
    """The model in memory."""
    _model_source: str = ""
    """The step whose model it is, or the name of a pretrained encoder."""
    _used: set[str] = field(default_factory=set)
    """Names of the feature sets that the current step has read."""

    def do(self, step: Step) -> None:
        """Do one step and mark it as finished."""
        folder = self.store.step(step.id)
        if distributed.rank() == 0:
            self.store.begin(step.id, step.row())
            self._check_parents_done(step)
        if step.kind == "train":
            distributed.meet()
        started, self._used, where = time.perf_counter(), set(), device.device()
        peak_memory.reset_peak(where)
        kinds = {"create": self._create, "train": self._train, "merge": self._merge, "evaluate": self._evaluate,
                 "ensemble": self._ensemble}  # fmt: skip
        with distributed.failing_together() if step.kind == "train" else nullcontext():
            facts = memory.attempt(partial(kinds[step.kind], step, folder), where)
            if facts is None:
                raise OutOfMemory("memory is full", hint=memory.GO_ON)
        if distributed.rank() == 0:
            self._check_parents_done(step)
            if precision := precision_of(step):
                facts["precision"] = precision
            if cards := cards_of(cast("Mapping[str, str]", facts["inputs"])):
                facts["translations"] = [card.model_dump(mode="json") for card in cards]
            seconds = time.perf_counter() - started + cast("float", facts.pop("earlier_seconds", 0.0))
            facts |= {"features": sorted(self._used), "seconds": round(seconds, 2)}
            facts |= {**peak_memory.peak_bytes(where), "versions": _versions()}
            self.store.finish(step.id, facts)

    def _check_parents_done(self, step: Step) -> None:
        """Check that a started step's parents are finished; a worker that repeats a parent waits for this step."""
        for id in self.plan.encoder_inputs(step):
            if self.store.state(id) is not StepState.DONE:
                what = "is no longer finished, but this run's next step starts from it"
                raise UserError(what, where=str(self.store.step(id)), hint="run again")

    def _create(self, step: Step, folder: Path) -> dict[str, object]:
        assert step.new is not None
        inputs = self.inputs.encoder_files(step)
        if step.new.given is None:
            text = self.inputs.train_set(self.plan.tasks[step.new.text])
            encoder, inputs = create(step.new, text.stream()), text.files
        else:
            encoder = create(step.new, tokenizer=given(self.inputs.require_encoder(step)))
        encoder.save(folder / "encoder")
        self.progress.end(f"{sum(p.numel() for p in encoder.parameters()):,} parameters")
        return {"inputs": inputs}

    def _train(self, step: Step, folder: Path) -> dict[str, object]:
        assert step.training is not None and step.seed is not None
        training, encoder = step.training, self._take_model(step).encoder
        if self.resources.compile:
            encoder.compile(self._say_uncompiled)
        device.seed(step.seed if training.head_seed is None else training.head_seed)
        inputs = self.inputs.encoder_files(step) | self.inputs.metric_files(step)
        train_tasks, dev_sets, model, stop_facts = [], [], TrainedModel(encoder), {}
        if distributed.rank() == 0:
            (folder / LOG).touch()
        for part in training.parts:
            task = self.inputs.task(part.task)
            rows = self.inputs.train_set(task, training).drawing(part.shots, step.seed)
            inputs |= rows.files
            kind = training.head if task.format.head.kind == "sequence" else None
            head = heads.build(task.format.head, encoder.config, encoder.vocabulary, kind or "stock")
            head.to(device.device())
            masking = encoder.masking() if task.format.head.kind == "vocabulary" else None
            features = distributed.main_process_first(
                partial(self._features, encoder, task.format, rows, part.max_length)
            )
            if part.shots and features.examples < part.shots * len(task.train_languages):
                few = ", ".join(f"{code} has {size:,}" for code, size in rows.fewer_than_shots().items())
                self.progress.say(f"{part.task}: all examples of a language are used below {part.shots:,} shots: {few}")
            language = task.train_languages[0] if len(task.train_languages) == 1 else ENGLISH
            train_tasks.append(TrainTask(part, head, features, masking, language))
            record = HeadRecord(
                task=task.name, format=task.format, head=kind, metric=task.metric, languages=task.train_languages,
                max_length=min(part.max_length, encoder.max_length), tokenizer=encoder.tokenizer_digest(),
            )  # fmt: skip
            model.heads.append(TrainedHead(record, head))
            stop = self.inputs.stop_set(task, training)
            if stop is None and masking is None and training.weights == "best":
                self.progress.say(f"{task.name}: no dev examples in the training language, so no early stopping")
            if stop is not None:
                inputs |= stop.files
                stop_facts[task.name] = self.inputs.stop_facts(task, stop)
                features = distributed.main_process_first(
                    partial(self._features, encoder, task.format, stop, part.max_length)
                )
                dev_sets.append(DevSet(task, head, stop.read(), features, part.max_length))

        order_U = task_order(train_tasks, training, step.seed)
        for note in warmup_notes(training, len(order_U)):
            self.progress.say(note)
        sizes, batches = [one.features.examples for one in train_tasks], [part.batch for part in training.parts]
        seen = examples_seen(sizes, batches, order_U)
        scored = dev_sizes(training, seen, [len(dev_set.examples) for dev_set in dev_sets])
        dev_sets = [dev_set.with_examples(encoder, size) for dev_set, size in zip(dev_sets, scored, strict=True)]
        trained = train(
            encoder, train_tasks, training, seed=step.seed,
            dev=partial(dev_score, dev_sets, encoder, training.precision, self.resources.tokens) if dev_sets else None,
            log=partial(self._log, folder / LOG), dev_examples=sum(scored),
            checkpoint=Checkpoint(folder, self.resources.minutes, self._origin(step, inputs), self.progress),
            tokens=self.resources.tokens or TOKENS,
        )  # fmt: skip
        if distributed.rank() == 0:  # the others do not have the best weights
            model.save(folder)
            if training.snapshots is not None:
                with trained.mean.swapped_in():
                    model.save(folder / "mean")
            self._model, self._model_source = model, step.id
        best = "" if trained.best is None else f", dev {trained.best:.1f} at update {trained.best_update:,}"
        outcome = dev_outcome(trained.best, dev_sets)
        chance = f", not clearly better than chance ({outcome['dev_chance']:.1f})" if outcome.get("at_chance") else ""
        failed = outcome.get("at_chance", True)  # without dev its scores may tell
        cause = self._likely_cause(training, folder / LOG, train_tasks, dev_sets, trained.best) if failed else ""
        why = f"; likely cause: {cause}" if chance and cause else ""
        shares = _shares(trained.shares)
        self.progress.end(f"{trained.updates:,} updates in {trained.seconds:.0f} s{best}{chance}{why}{shares}")
        return {
            "inputs": inputs, "stop": stop_facts, "updates": trained.updates,
            "best_update": trained.best_update, "dev": trained.best,
            "shares": trained.shares, "snapshots": trained.mean.count, "earlier_seconds": trained.earlier_seconds,
            **outcome,
            **({"likely_cause": cause} if cause else {}),
        }  # fmt: skip

    def _say_uncompiled(self, why: str) -> None:
        """Say why a training goes on without the compiler."""
        self.progress.say(f"torch.compile does not work here, so the training goes on without it: {why}")

    def _likely_cause(
        self, training: TrainSpec, log: Path, train_tasks: Sequence[TrainTask], dev_sets: Sequence[DevSet],
        best: float | None,
    ) -> str:  # fmt: skip
        """The cause if the training ended at chance; only the first process knows it."""
        labelled = [self.inputs.task(one.settings.task).format for one in train_tasks]
        if distributed.rank() != 0 or all(format.head.kind == "vocabulary" for format in labelled):
            return ""
        rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        alone = len(train_tasks) == 1
        sizes = [(one.chance, len(one.examples), one.task.stop_metric) for one in dev_sets]
        return likely_cause(
            training, rows,
            one_label=alone and has_one_label(labelled[0], train_tasks[0].features),
            one_answer=alone and bool(dev_sets) and has_one_answer(dev_sets[0].predictions),
            small_dev=small_dev(best, *sizes[0]) if best is not None and len(sizes) == 1 else "",
        )  # fmt: skip

    def _origin(self, step: Step, inputs: Mapping[str, str]) -> list[str]:
        """Identifies a training's inputs and hardware; a checkpoint of another origin is not used."""
        parents = [digest(self.store.step(id) / "done.json") for id in step.parents]
        automatic = step.training is not None and step.training.precision == "auto"
        rounded = {precision_of(step)} - {EARLIER} if automatic else set()
        return [*parents, *inputs.values(), device.device().type, *rounded, str(distributed.world_size())]

    def _log(self, path: Path, line: LogRow) -> None:
        if distributed.rank() != 0:
            return
        row = {key: value for key, value in dataclasses.asdict(line).items() if value is not None}
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        left = line.seconds / line.step * (line.total - line.step)
        dev = f", dev {line.dev:.1f}" if line.dev is not None else ""
        speed = line.examples_per_second
        rate = f", {speed:,.{0 if speed >= 10 else 1}f} examples/s" if speed else ""
        self.progress.update(line.step, line.total, f"loss {line.loss:.3f}{rate}{dev}", left, line.loss)

    def _merge(self, step: Step, folder: Path) -> dict[str, object]:
        assert step.merging is not None
        self._model, merging = None, step.merging
        sources, base_folder = [self.store.step(id) for id in step.parents], folder / "base"
        if merging.how == "checkpoints":
            link(sources[0] / "mean", folder)
            points = self.store.facts(step.parents[0]).get("snapshots")
            self.progress.end(f"mean of {points} points of the training")
            return {"inputs": {}}
        if merging.how == "vectors":
            base = self.plan.steps[step.parents[0]].parent
            if base is None:
                self.load_pretrained(step).save(base_folder / "encoder")  # in the format of the parents' encoders
            sources.insert(0, self.store.step(base) if base else base_folder)
        trained = [i for i, name in enumerate(merging.heads) if self.inputs.task(name).format.head.trained]
        merge(sources, folder, heads=trained, scale=merging.scale)
        copy_records(sources, folder, range(len(merging.heads)))
        shutil.rmtree(base_folder, ignore_errors=True)
        self.progress.end(f"{len(step.parents)} encoders merged")
        return {"inputs": self.inputs.encoder_files(step)}

    def _ensemble(self, step: Step, folder: Path) -> dict[str, object]:
        assert step.ensemble is not None
        task = self.plan.tasks[step.ensemble.task]
        predictions, scores = average_predictions(self.store, step, step.ensemble, task)
        write_rows(folder / "predictions.jsonl", predictions)
        write_rows(folder / "scores.jsonl", scores)
        summary = means(scores, task.metric, SPLITS)
        self.progress.end(f"{task.metric} {summary}" if summary else "predicted, not scored")
        unlabelled: dict[str, list[str]] = {}
        scored = {(row.language, row.split) for row in scores}
        for language, split in dict.fromkeys((row.language, row.split) for row in predictions):
            if (language, split) not in scored:
                unlabelled.setdefault(split, []).append(language)
        return {"inputs": {}, "unlabelled": unlabelled}

    def _evaluate(self, step: Step, folder: Path) -> dict[str, object]:
        assert step.scoring is not None
        model = self._model_for(step)
        task, scoring = self.inputs.task(step.scoring.task), step.scoring
        if scoring.layer is not None:
            task = task.model_copy(update={"format": task.format.model_copy(update={"layer": scoring.layer})})
        head = self._head(step, model, task).to(device.device()).eval()
        evaluator = Evaluator(step, model.encoder, head, task, folder, self.progress, self.resources.tokens)

        def read(language: str) -> list[EvalSplit]:
            return [
                EvalSplit(
                    split, rows.read(), self._features(model.encoder, task.format, rows, scoring.max_length), rows.files
                )
                for split, rows in self.inputs.eval_splits(step, language).items()
            ]

        inputs = self.inputs.encoder_files(step) | self.inputs.metric_files(step) | evaluator.evaluate(read)
        summary, translated = evaluator.write(), evaluator.translated
        lost = not_found_line(translated)
        self.progress.end((f"{task.metric} {summary}" if summary else "predicted, not scored") + lost)
        facts: dict[str, object] = {"translated_back": translated, "untuned": evaluator.untuned}
        facts = {name: value for name, value in facts.items() if value}
        return {"inputs": inputs, "unlabelled": evaluator.unlabelled, "thresholds": evaluator.thresholds, **facts}

    def _head(self, step: Step, model: TrainedModel, task: Task) -> Head:
        """The head that predicts for an evaluated task.

        Raises:
            UserError: the head was trained for another format, or for other labels.
        """
        assert step.scoring is not None
        if step.scoring.head is None:
            return heads.build(task.format.head, model.encoder.config, model.encoder.vocabulary)
        trained = model.heads[step.scoring.head]
        if not trained.record.fits(task.format):
            what = f"the head of '{trained.record.task}' has a different format or labels than '{task.name}'"
            folder = self.store.step(step.parents[0])
            raise UserError(what, where=str(folder), hint=f"delete {folder} and run again")
        return trained.module

    def _features(self, encoder: Encoder, format: Format, rows: LocatedSplit, max_length: int) -> FeatureSet:
        tokenizer, content = encoder.tokenizer_for(max_length), rows.content

        def read() -> Iterator[tuple[Example, int]]:
            for sampled in rows.sampled():
                check_stopped()
                yield sampled
            if rows.content != content:
                raise DataError("has changed while it was read", where=", ".join(rows.files), hint="run again")

        tokenizer_digest = encoder.tokenizer_digest()
        self._used.add(key(format, tokenizer, tokenizer_digest, content))
        return stored(self.store.features, format, tokenizer, tokenizer_digest, content, read)

    def _model_for(self, step: Step) -> TrainedModel:
        """The model that a step starts from, in evaluation mode; it stays in memory."""
        if self._model is None or self._model_source != (step.parent or step.encoder):
            self._model = None  # frees its memory before the next one is loaded
            model = self._load(step.parent) if step.parent else TrainedModel(self.load_pretrained(step))
            self._model, self._model_source = model, step.parent or step.encoder
        encoder = encoders.for_inference(self._model.encoder)
        spec = step.training or step.scoring
        if spec is not None and (note := encoder.check_packing(spec.precision)):
            self.progress.say(note)
        return self._model

    def load_pretrained(self, step: Step) -> Encoder:
        """Load the pretrained encoder of a step."""
        remote_code = self.plan.recipe.trust_remote_code == step.encoder
        return encoders.load(self.inputs.require_encoder(step), remote_code=remote_code)

    def preload(self, step: Step) -> Encoder:
        """Load its pretrained encoder and keep it in memory for the first step that starts from it."""
        self._model, self._model_source = TrainedModel(self.load_pretrained(step)), step.encoder
        return self._model.encoder

    def forget(self) -> None:
        """Release the model in memory."""
        self._model = None

    def _take_model(self, step: Step) -> TrainedModel:
        """The model that a training starts from; no later step reuses it, because the training changes it."""
        model, self._model = self._model_for(step), None
        return model

    def _load(self, id: str) -> TrainedModel:
        folder, parent = self.store.step(id), self.plan.steps[id]
        try:
            model = TrainedModel.load(folder)
            if len(model.heads) != len(parent.heads):
                raise UserError(f"has {len(model.heads)} heads, not {len(parent.heads)}", where=str(folder))
        except OutOfMemory:
            raise
        except UserError as error:
            raise UserError(error.message, where=error.where, hint=f"delete {folder} and run again") from error
        return model


def _versions() -> dict[str, str]:
    """The versions of what computes."""
    libraries = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"xstilts": __version__, "Python": platform.python_version(), **libraries}


def _shares(updates: Mapping[str, int]) -> str:
    """Each task's share of the updates, if there are several tasks."""
    if len(updates) < 2:
        return ""
    return "; " + ", ".join(f"{task} {100 * n / sum(updates.values()):.1f} %" for task, n in updates.items())
