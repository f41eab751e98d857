"""A ranking as tables, with the legend that says how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xstilts.analysis.rank_correlation import critical_spearman
from xstilts.rank.ranking import ALL_TARGETS, METHODS, Ranking
from xstilts.render.table import MISSING, Table, TableCell
from xstilts.reports.legend import legend_lines, over_seeds


def tables(ranking: Ranking) -> list[Table]:
    """A table for each target, then one of the agreement with measured gains, if there are some."""
    shown = [_of_target(ranking, target) for target in dict.fromkeys(line.target for line in ranking.lines)]
    return [*shown, _agreement(ranking)] if ranking.checks else shown


def _of_target(ranking: Ranking, target: str) -> Table:
    lines = [line for line in ranking.lines if line.target == target]
    methods = [name for name in METHODS if any(name in line.scores for line in lines)]
    columns = [(METHODS[name].title, METHODS[name].unit) for name in methods]
    rows = [(line.candidate, _cells(methods, line.scores, line.places)) for line in lines]
    before = {name: score for name, score in ranking.before.get(target, {}).items() if name in methods}
    if before:
        rows.append(("(before)", _cells(methods, before, {})))
    if any(line.gain is not None for line in lines):
        columns.append(("gain", "points"))
        gains = [MISSING if line.gain is None else f"{line.gain:+z.1f}" for line in lines] + [""] * bool(before)
        rows = [(name, [*cells, TableCell(gain)]) for (name, cells), gain in zip(rows, gains, strict=True)]
    drawn = tuple((name, tuple(cells)) for name, cells in rows)
    return Table(f"{target}: which task may help", "candidate", tuple(columns), drawn, summaries=bool(before))


def _cells(methods: Sequence[str], scores: Mapping[str, float], places: Mapping[str, int]) -> list[TableCell]:
    """The score by each method, and its place; the first one's is bold."""
    cells = []
    for name in methods:
        place = f"({places[name]})" if name in places else ""
        score = f"{scores[name]:.{METHODS[name].digits}f}" if name in scores else MISSING
        cells.append(TableCell(score, place, best=places.get(name) == 1))
    return cells


def _agreement(ranking: Ranking) -> Table:
    rows = []
    for one in ranking.checks:
        cells = f"{one.n}", f"{one.spearman:+z.2f}", f"{one.kendall:+z.2f}", f"{one.p:.3f}", f"{one.lost:.1f}"
        rows.append((f"{one.target}: {METHODS[one.method].title}", tuple(map(TableCell, cells))))
    columns = (("n", ""), ("Spearman", ""), ("Kendall", ""), ("p", ""), ("lost", "points"))
    last = sum(one.target == ALL_TARGETS for one in ranking.checks)
    return Table("Agreement with the measured gains", "target and method", columns, tuple(rows), summaries=last)


def legend(ranking: Ranking) -> list[str]:
    """What the columns mean, and how far to trust a few candidates; one line each."""
    measured, checked = ranking.baseline is not None, bool(ranking.checks)
    explained = [
        ("(1) marks each method's first candidate; candidates are listed by the similarity of their texts", True),
        (
            "text: cosine of the mean vectors of the two tasks' texts; left to learn: the share of the candidate's own "
            "labels that the encoder's features do not predict before any training, whatever the target",
            True,
        ),
        ("both are hints: --run DIR shows them beside measured gains", not measured),
        (
            f"gain: over '{ranking.baseline}' at the same seed{over_seeds(ranking.seeds, listed=True)}; points of the "
            "target's main metric, mean over languages",
            measured,
        ),
        (
            "LogME, H-score: of the target's training labels, with features of the encoder that was trained on the "
            "candidate but not on the target; (before): without either training",
            measured and ranking.before,
        ),
        (
            "orders are compared where three candidates of a target have gains that differ: here none has",
            measured and not checked,
        ),
        (
            "Spearman, Kendall: of the method's order and the gains'; p: by permutation, two-sided, of Spearman's; "
            "lost: gain of the best candidate less that of the method's first",
            checked,
        ),
        (
            f"{ALL_TARGETS}: over the targets for which every candidate has a score and a gain",
            any(one.target == ALL_TARGETS for one in ranking.checks),
        ),
        (_few_candidates(ranking) if checked else "", checked),
    ]
    return legend_lines(explained, {})


def _few_candidates(ranking: Ranking) -> str:
    """How large a correlation must be to mean anything."""
    n = max(one.n for one in ranking.checks)
    bound = critical_spearman(n)
    limit = "no correlation is" if bound is None else f"only a Spearman of {bound:.2f} or more, up or down, is"
    return (
        f"{n} candidates are few points: {limit} rarer than one in twenty by chance, for one target and method; "
        f"of the {len(ranking.checks)} here some look good by luck"
    )
