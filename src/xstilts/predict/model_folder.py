"""Loads the model of a folder, says what another folder is, and finds the thresholds that its evaluations tuned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from xstilts.errors import UserError, listed
from xstilts.model import encoder as encoders
from xstilts.model.trained import TrainedModel, is_trained_model, read_records
from xstilts.store.run_folder import MARK, open_existing
from xstilts.store.step_record import DROPPED, StepRecord, StepState, encoder_of, read_step, state_of
from xstilts.utils.files import read_json


def load_model(name: str) -> TrainedModel:
    """Load the model of a step's folder, or an encoder without heads.

    Args:
        name: a step's folder or a copy of it, or a link to one; else an encoder, as a folder or Hub id.

    Raises:
        UserError: the folder is another one, is of another version or not finished, or its files do not fit together.
    """
    folder = Path(name)
    if (folder / MARK).is_file():
        raise _run_folder(folder)
    if (folder / "step.json").is_file():
        _check_step(folder.resolve(), name)
    if is_trained_model(folder):
        return TrainedModel.load(folder)
    if [*folder.glob("head-*.safetensors")]:
        raise UserError("has a head, but no encoder", where=name, hint="copy the step's folder anew")
    if folder.is_file():
        raise UserError("is a file, not the folder of a model", where=name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        hint = _one_of(folder, "*", "*/*") or "neither step.json nor config.json is in it"
        raise UserError("is not the folder of a model", where=name, hint=hint)
    return TrainedModel(encoders.load(name))


def has_head(name: str) -> bool:
    """Whether a name, as `load_model` takes it, is a model that predicts labels; else it only makes vectors."""
    folder = Path(encoder_of(name, None))
    return is_trained_model(folder) and any(record.format.head.trained for record in read_records(folder))


def _run_folder(folder: Path) -> UserError:
    """The error for a run folder; names the models in it."""
    open_existing(folder)
    hint = _one_of(folder, "best/*/*") or f"give a step: {folder}/steps/ID"
    return UserError("is a run folder with several models", where=str(folder), hint=hint)


def _one_of(folder: Path, *patterns: str) -> str:
    """A hint that names the models in a folder; empty if there are none."""
    models = [str(one) for pattern in patterns for one in sorted(folder.glob(pattern)) if is_trained_model(one)]
    return f"give one of its models: {listed(models, 5)}" if models else ""


def _check_step(folder: Path, name: str) -> None:
    """Refuse the folder of a step without an encoder, of an unfinished step, or in a run folder of another version."""
    if (folder.parents[1] / MARK).is_file():
        open_existing(folder.parents[1])
    if (folder / DROPPED).is_file():
        hint = "run the recipe again with `keep: all`, or another value of `keep` that keeps it"
        raise UserError("the encoder of this step was not kept", where=name, hint=hint)
    if (record := read_step(folder)).kind in ("evaluate", "ensemble"):
        parent = record.parent
        hint = f"give the step that it evaluates, {folder.parent / parent}" if parent else "give the recipe's encoder"
        raise UserError("is an evaluation, which has no encoder of its own", where=name, hint=hint)
    if state_of(folder) is not StepState.DONE:
        raise UserError("this step is not finished", where=name, hint="run its recipe again")


def find_thresholds(folder: Path, head: int, task: str) -> dict[str, float | None]:
    """The thresholds that evaluations of a step's head have used, by language; None if a file does not say.

    Args:
        folder: of the step; a copy outside of a run folder has no evaluations.
        head: its number.
        task: evaluations of this task come first.
    """
    thresholds: dict[str, float | None] = {}
    found = (
        (other, record) for other, record in evaluations_of(folder) if record.scoring and record.scoring.head == head
    )
    for other, record in sorted(found, key=lambda one: one[1].scoring is not None and one[1].scoring.task == task):
        with suppress(OSError, ValueError):
            tuned = read_json(other / "done.json").get("thresholds")
            for language in record.scoring.languages if record.scoring else ():
                thresholds[language] = None if tuned is None else tuned.get(language, 0.0)
    return thresholds


def evaluations_of(folder: Path) -> Iterator[tuple[Path, StepRecord]]:
    """The finished evaluations of a step's model, in the order of their ids; none for a copy elsewhere."""
    step = folder.resolve()
    if not (step.parents[1] / MARK).is_file():
        return
    for other in sorted(step.parent.iterdir()):
        with suppress(OSError, UserError):  # a step that has just begun, or is damaged, tells nothing
            record = read_step(other)
            if record.scoring is not None and record.parent == step.name and state_of(other).has_results:
                yield other, record
