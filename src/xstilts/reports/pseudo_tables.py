"""Scores on machine-translated test sets beside those on real ones, as in Tables 3 and 4 of XTREME's appendix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from xstilts.analysis.aggregate import MEAN, Series, at_common_seeds, join, median_over_seeds, steps_of
from xstilts.analysis.results import StudyResults
from xstilts.errors import UserError
from xstilts.render.table import MISSING, Document, Table, TableCell
from xstilts.reports import published
from xstilts.reports.legend import full_names, legend_lines, not_finished, short_names
from xstilts.reports.paper_cells import StudyScores, catalogue_name, metrics_of_cell
from xstilts.study.index import Study, StudyTask

GOLD, AUTO, DIFFERENCE = "gold", "auto", "difference"
"""A real test set, a translated one, and the score on this minus the score on that."""
MEASURES = {"bleu": "BLEU", "chrf": "chrF"}


@dataclass(frozen=True)
class PseudoScore:
    """A score, or BLEU or chrF, of a language, or its mean over the languages that have both test sets.

    `test_set` is GOLD, AUTO or DIFFERENCE. `value` is a median over the seeds; a difference is the median of the
    differences at the same seed. BLEU and chrF have no branch.
    """

    task: str
    branch: str
    test_set: str
    language: str
    split: str
    metric: str
    value: float


@dataclass(frozen=True)
class _Pair:
    """A task and, for each language, the task with a translated test set."""

    gold: StudyTask
    auto: dict[str, StudyTask]
    numbers: StudyScores

    @property
    def metrics(self) -> tuple[str, ...]:
        return metrics_of_cell(self.numbers.study, self.gold)

    @property
    def both(self) -> list[str]:
        """The languages of the means: those in which every run has scores on both test sets."""
        own = self.numbers.languages(self.gold)
        return [code for code, task in self.auto.items() if code in own and code in self.numbers.languages(task)]

    def runs(self, test_set: str, metric: str, branch: str, language: str) -> Series:
        """The scores by seed."""
        if language == MEAN:
            return _mean([self.runs(test_set, metric, branch, code) for code in self.both])
        task = self.gold if test_set == GOLD else self.auto[language]
        return self.numbers.runs(task, metric, branch, language)

    def other_sizes(self) -> list[str]:
        """The languages in which the two test sets have other numbers of examples, such as `es 1,190 and 1,185`."""
        return [f"{code} {a:,} and {b:,}" for code in self.both if (a := self._size(self.gold, code))
                != (b := self._size(self.auto[code], code))]  # fmt: skip

    def _size(self, task: StudyTask, language: str) -> int:
        by_branch = self.numbers.rows(task, task.metric)[language]
        return max(score.n for series in by_branch.values() for score in series.values())

    def lines(self) -> Iterator[PseudoScore]:
        """All numbers."""
        name, split = self.gold.name, self.numbers.split
        for branch in self.numbers.study.branches:
            for language in (*self.auto, MEAN):
                for metric in self.metrics:
                    gold, auto = (self.runs(kind, metric, branch, language) for kind in (GOLD, AUTO))
                    gap = {seed: b - a for seed, (a, b) in at_common_seeds([gold, auto]).items()} if gold else {}
                    for test_set, series in ((GOLD, gold), (AUTO, auto), (DIFFERENCE, gap)):
                        if series:
                            value = median_over_seeds(series.values())
                            yield PseudoScore(name, branch, test_set, language, split, metric, value)
        for measure in MEASURES:
            known = {
                code: x for code, task in self.auto.items() if (x := task.pseudo_test[code].get(measure)) is not None
            }
            for language, value in known.items():
                yield PseudoScore(name, "", AUTO, language, split, measure, value)
            if self.both and known.keys() >= {*self.both}:
                yield PseudoScore(name, "", AUTO, MEAN, split, measure, fmean(known[code] for code in self.both))


def pseudo(results: StudyResults) -> Document:
    """For each task with a translated test set the scores on both, and BLEU and chrF of the translation.

    Raises:
        UserError: the study scores no translated test set beside the real one.
    """
    study = results.study
    found, notes = join(study, results.scores)
    pairs = list(_pairs(study, StudyScores(study, found, "test"), StudyScores(study, found, "dev")))
    if not pairs:
        what = "the study scores no translated test set beside the real one"
        raise UserError(what, where="--layout pseudo", hint="evaluate both tasks, such as xquad and xquad-es")
    lines = [line for pair in pairs for line in pair.lines()]
    used = {task.name for pair in pairs for task in pair.auto.values()}
    second = [task.name for task in study.targets if task.pseudo_test and task.name not in used]
    tables = [_table(study, pair, [x for x in lines if x.task == pair.gold.name]) for pair in pairs]
    if results.beside:
        tables += [table for pair in pairs for table in _published(catalogue_name(study, pair.gold.name))]
    missing = study.missing_cells(steps_of(found.values()), results.unscored)
    seeds = ", ".join(map(str, study.seeds))
    explained = [
        *((_names(pair), True) for pair in pairs),
        (f"translated test sets that are not shown: {', '.join(second)}", second),
        (f"{DIFFERENCE}: {AUTO} minus {GOLD}" + ", at the same seed" * (len(study.seeds) > 1), True),
        *(
            (f"{pair.gold.name}: {GOLD} and {AUTO} count other numbers of examples: {'; '.join(sizes)}", True)
            for pair in pairs
            if (sizes := pair.other_sizes())
        ),
        (f"{MEAN}: over the languages with both test sets", any(line.language == MEAN for line in lines)),
        (f"medians over seeds {seeds}, each by itself", len(study.seeds) > 1),
        (not_finished(study, missing), missing),
    ]
    legend = legend_lines(explained, full_names(study), (*notes, *results.notes))
    facts = {**study.header(), "lines": [asdict(line) for line in lines], "notes": [*notes, *results.notes]}
    return Document(tables, legend, PseudoScore, lines, facts)


def _pairs(study: Study, *by_split: StudyScores) -> Iterator[_Pair]:
    """Each task with the tasks that are like it, and whose test set is a translation, on the first split with scores.

    Of two translations into one language the first counts.
    """
    alike: dict[str, list[StudyTask]] = defaultdict(list)
    for task in study.targets:
        alike[catalogue_name(study, task.name)].append(task)
    for tasks in alike.values():
        gold = next((task for task in tasks if not task.pseudo_test), None)
        for numbers in by_split if gold else ():
            auto: dict[str, StudyTask] = {}
            for task in tasks:
                there = numbers.rows(task, task.metric)
                auto = {code: task for code in task.pseudo_test if code in there} | auto
            if gold and auto:
                order = [*gold.languages, *auto]
                yield _Pair(gold, {code: auto[code] for code in sorted(auto, key=order.index)}, numbers)
                break


def _mean(by_language: Sequence[Series]) -> Series:
    """The mean over languages, at the seeds that all have."""
    return {seed: fmean(x) for seed, x in at_common_seeds(by_language).items()} if by_language else {}


def _table(study: Study, pair: _Pair, lines: Sequence[PseudoScore]) -> Table:
    values = {(x.branch, x.test_set, x.language, x.metric): x.value for x in lines}
    columns = [*pair.auto, *([MEAN] if pair.both else [])]
    rows: list[tuple[str, tuple[TableCell, ...]]] = []
    breaks = []
    for branch, name in short_names(study.branches).items():
        breaks.append(len(rows))
        for test_set in (GOLD, AUTO, DIFFERENCE):
            label = test_set if len(study.branches) == 1 else f"{name}: {test_set}"
            cells = [[values.get((branch, test_set, code, x)) for x in pair.metrics] for code in columns]
            rows.append((label, tuple(_cell(x, "+" * (test_set == DIFFERENCE)) for x in cells)))
    breaks.append(len(rows))
    for measure, label in MEASURES.items():
        known = [values.get(("", AUTO, code, measure)) for code in columns]
        if any(value is not None for value in known):
            rows.append((label, tuple(_cell([value]) for value in known)))
    units = "F1/EM" if len(pair.metrics) > 1 else pair.metrics[0]
    title = f"{pair.gold.name}: {units} on real and translated test sets, {pair.numbers.split}"
    gaps = tuple(at for at in breaks[1:] if at < len(rows))
    return Table(title, "test set", tuple((code, "") for code in columns), tuple(rows), breaks=gaps)


def _cell(values: Sequence[float | None], sign: str = "") -> TableCell:
    known = [value for value in values if value is not None]
    return TableCell("/".join(f"{x:{sign}z.1f}" for x in known) if len(known) == len(values) else MISSING)


def _names(pair: _Pair) -> str:
    versions = dict.fromkeys(task.name for task in pair.auto.values())
    return f"{GOLD}: {pair.gold.name}; {AUTO}: {', '.join(versions)}, translated by machine"


def _published(task: str) -> Iterator[Table]:
    """XTREME's own table, as printed, if it has one of this task."""
    for paper in published.tables("xtreme"):
        if paper.task == task and AUTO in {word for row in paper.rows for word in row}:
            rows = []
            for block, configuration in paper.rows:
                cells = [paper.cells[block, configuration, code] or [None] for code in paper.columns]
                rows.append((f"{configuration} {block}", tuple(map(_cell, cells))))
            title = f"XTREME's Table {paper.name.removeprefix('table')}: {paper.title}"
            yield Table(title, "test set", tuple((code, "") for code in paper.columns), tuple(rows))


LAYOUTS = {"pseudo": pseudo}
"""A layout with published numbers to show beside ours."""
