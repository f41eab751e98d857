"""A ranking as tables for people, with the legend that says how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xstilts.analysis.rank_correlation import beyond_chance
from xstilts.rank.ranking import ALL_TARGETS, METHODS, Ranking
from xstilts.render.table import MISSING, Entry, Table


def tables(made: Ranking) -> list[Table]:
    """A table for each target, then one of the agreement with measured gains, if there are some."""
    shown = [_of_target(made, target) for target in dict.fromkeys(line.target for line in made.lines)]
    return [*shown, _agreement(made)] if made.checks else shown


def _of_target(made: Ranking, target: str) -> Table:
    lines = [line for line in made.lines if line.target == target]
    methods = [name for name in METHODS if any(name in line.scores for line in lines)]
    columns = [(METHODS[name].title, METHODS[name].unit) for name in methods]
    rows = [(line.candidate, _cells(methods, line.scores, line.places)) for line in lines]
    before = {name: score for name, score in made.before.get(target, {}).items() if name in methods}
    if before:
        rows.append(("(before)", _cells(methods, before, {})))
    if any(line.gain is not None for line in lines):
        columns.append(("gain", "points"))
        gains = [MISSING if line.gain is None else f"{line.gain:+z.1f}" for line in lines] + [""] * bool(before)
        rows = [(name, [*cells, Entry(gain)]) for (name, cells), gain in zip(rows, gains, strict=True)]
    drawn = tuple((name, tuple(cells)) for name, cells in rows)
    return Table(f"{target}: which task may help", "candidate", tuple(columns), drawn, summaries=bool(before))


def _cells(methods: Sequence[str], scores: Mapping[str, float], places: Mapping[str, int]) -> list[Entry]:
    """The score by each method, and its place; the first one's is bold."""
    cells = []
    for name in methods:
        place = f"({places[name]})" if name in places else ""
        score = f"{scores[name]:.{METHODS[name].digits}f}" if name in scores else MISSING
        cells.append(Entry(score, place, best=places.get(name) == 1))
    return cells


def _agreement(made: Ranking) -> Table:
    rows = []
    for one in made.checks:
        cells = f"{one.n}", f"{one.spearman:+z.2f}", f"{one.kendall:+z.2f}", f"{one.p:.3f}", f"{one.lost:.1f}"
        rows.append((f"{one.target}: {METHODS[one.method].title}", tuple(map(Entry, cells))))
    columns = (("n", ""), ("Spearman", ""), ("Kendall", ""), ("p", ""), ("lost", "points"))
    last = sum(one.target == ALL_TARGETS for one in made.checks)
    return Table("Agreement with the measured gains", "target and method", columns, tuple(rows), summaries=last)


def legend(made: Ranking) -> list[str]:
    """What the columns mean, and how little a few points can say; one line each."""
    said = [
        "(1) is a method's first; the candidates stand in the order of their texts",
        "text: cosine of the mean vectors of the two tasks' texts; left to learn: what of the candidate's own labels "
        "the encoder's features do not tell before any training, whatever the target",
    ]
    if made.baseline is None:
        return [*said, "both are hints: --run DIR shows them beside gains that were measured"]
    said.append(
        f"gain: over '{made.baseline}' at the same seed, median over seeds {', '.join(map(str, made.seeds))}; points "
        "of the target's main metric, mean over languages"
    )
    if made.before:
        said.append("LogME, H-score: of the target's training labels, by the features of the encoder after the "
                    "candidate's training, before the target's; (before): without either")  # fmt: skip
    if not made.checks:
        return [*said, "orders are compared where three candidates of a target have gains that differ: here none has"]
    said.append("Spearman, Kendall: of the method's order and the gains'; p: by permutation, two-sided, of Spearman's; "
                "lost: gain of the best candidate less that of the method's first")  # fmt: skip
    if any(one.target == ALL_TARGETS for one in made.checks):
        said.append(f"{ALL_TARGETS}: over the targets for which every candidate has a score and a gain")
    n = max(one.n for one in made.checks)
    bound = beyond_chance(n)
    limit = "no correlation is" if bound is None else f"only a Spearman of {bound:.2f} or more, up or down, is"
    few = f"{n} candidates are few points: {limit} rarer than one in twenty by chance"
    return [*said, f"{few}, for one target and method; of the {len(made.checks)} here some look good by luck"]
