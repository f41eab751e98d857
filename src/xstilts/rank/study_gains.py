"""The gains that a finished study measured, and the encoders that its intermediate trainings saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xstilts import metrics
from xstilts.analysis.aggregate import MEAN, build
from xstilts.errors import UserError, nearest
from xstilts.store.run_folder import Store, open_existing
from xstilts.store.step_record import read_step
from xstilts.study.index import Study


@dataclass(frozen=True)
class StudyGains:
    """One study of a run folder."""

    store: Store
    study: Study

    @property
    def targets(self) -> tuple[str, ...]:
        """The tasks with a score of the baseline, so that there can be a gain."""
        return tuple(dict.fromkeys(cell.task for cell in self.study.cells if cell.branch == self.study.baseline))

    @property
    def encoder(self) -> str:
        """The encoder before any intermediate task: a folder, or its name in the recipe."""
        before = self.encoders(self.study.baseline or "")
        return str(before[0]) if before else self.study.encoder

    def encoders(self, branch: str) -> list[Path]:
        """The encoders that a branch's intermediate training saved, one for each seed with its own."""
        own = {task.name: task.trained_on_own_data for task in self.study.tasks}
        steps: dict[str, None] = {}
        for cell in self.study.cells:
            if cell.branch == branch:
                step = self._parent(cell.step)
                if step and own[cell.task]:  # that was the target's own training
                    step = self._parent(step)
                if step and self.store.state(step).has_results:
                    steps[step] = None
        folders = [self.store.step(step) / "encoder" for step in steps]
        return [folder for folder in folders if (folder / "config.json").is_file()]

    def trained_on(self, branch: str, files: Mapping[str, str]) -> bool:
        """Whether a branch's intermediate trainings read these files, by sha256; True where the record is missing."""
        read = [{*self.store.facts(folder.parent.name).get("inputs", {}).values()} for folder in self.encoders(branch)]
        return all({*files.values()} <= sha256 for sha256 in read if sha256)

    def gains(self) -> dict[tuple[str, str], float]:
        """The gain of each branch over the baseline, by task and branch; more is better.

        As in reports: the mean over languages of the main metric, on dev, or on test for a task without dev scores; the
        median over seeds of the difference at the same seed.
        """
        report = build(self.study, self.store.scores(self.study))
        main = {task.name: task.metric for task in self.study.tasks}
        return {
            (line.task, line.branch): line.gain if metrics.get(line.metric).higher_is_better else -line.gain
            for line in report.lines
            if line.language == MEAN and line.metric == main.get(line.task) and line.gain is not None
        }

    def _parent(self, step: str) -> str | None:
        try:
            return read_step(self.store.step(step)).parent
        except FileNotFoundError:  # not begun yet
            return None


def open_study(folder: Path, recipe: str | None) -> StudyGains:
    """The study of a recipe in a run folder, by default the newest.

    Raises:
        UserError: no run folder, no such recipe, or a study without a baseline.
    """
    store = open_existing(folder)
    study = store.study(recipe)
    if study.baseline is None:
        what = f"the recipe '{study.name}' has no branch without an intermediate task to measure gains against"
        raise UserError(what, where=str(folder), hint="another recipe of the folder: --recipe NAME")
    return StudyGains(store, study)


def check_names(study_gains: StudyGains, targets: list[str], among: list[str]) -> list[UserError]:
    """An error for each of these tasks that the study lacks."""
    where = f"{study_gains.store.folder}, recipe '{study_gains.study.name}'"
    wrong = [
        UserError(f"the target '{name}' is not scored there", where=where, hint=nearest(name, study_gains.targets))
        for name in targets
        if name not in study_gains.targets
    ]
    wrong += [
        UserError(
            f"no branch there trains on '{name}' alone", where=where, hint=nearest(name, study_gains.study.branches)
        )
        for name in among
        if name not in study_gains.study.branches
    ]
    return wrong
