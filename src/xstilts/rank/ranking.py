"""Rankings: for each target the candidates with their estimates, and how these agree with what a study has measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from xstilts.catalogue import folder
from xstilts.data.check import chosen
from xstilts.encoder import load
from xstilts.errors import Collector, UserError
from xstilts.rank.agreement import Agreement, agree, beyond_chance
from xstilts.rank.estimators import cosine, h_score, logme, told
from xstilts.rank.look import Sample, Seen, ready, sample, see
from xstilts.rank.measured import Measured, check_names, measured
from xstilts.report.tables import Entry, Table
from xstilts.source import home
from xstilts.task import Task
from xstilts.tasks import with_own

DEFAULT = "intermediate"
"""Candidates where none are named: the paper's nine."""
ALL_TARGETS = "mean"


class Method(NamedTuple):
    """A way to estimate; more is ranked first."""

    title: str
    unit: str
    digits: int
    trained: bool
    """Whether it looks at encoders after the intermediate training."""


METHODS = {
    "text": Method("text", "100 cos", 2, False),
    "left": Method("left to learn", "%", 1, False),
    "logme": Method("LogME", "nats", 4, True),
    "h_score": Method("H-score", "", 3, True),
}


@dataclass(frozen=True)
class Wish:
    """What is to be ranked; names may be groups. Empty ones are those of the study, or the paper's nine."""

    targets: Sequence[str]
    among: Sequence[str]
    encoder: str | None = None
    data: Path | None = None
    limit: int = 1000
    """Examples of a task that are looked at, at most."""
    use: Sequence[Path] = ()
    run: Path | None = None
    recipe: str | None = None


@dataclass(frozen=True)
class Line:
    """A candidate for a target: its score by each method that has one, the place that gives it, the measured gain."""

    target: str
    candidate: str
    scores: Mapping[str, float]
    places: Mapping[str, int]
    gain: float | None


@dataclass(frozen=True)
class Check:
    """How a method's order agrees with the measured gains; `target` is `mean` for the mean over all of them."""

    target: str
    method: str
    n: int
    spearman: float
    kendall: float
    p: float
    lost: float
    """Points of gain that are lost by taking the method's first candidate in place of the best."""


@dataclass(frozen=True)
class Ranking:
    """All lines, target by target, most similar texts first; the checks if gains were measured; what to know."""

    encoder: str
    lines: tuple[Line, ...]
    before: Mapping[str, Mapping[str, float]]
    """For each target LogME and H-score of the encoder before any intermediate training."""
    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """One JSON document."""
        return {
            "encoder": self.encoder,
            "lines": [asdict(line) for line in self.lines],
            "before": self.before,
            "checks": [asdict(check) for check in self.checks],
            "notes": self.notes,
        }

    def tables(self) -> list[Table]:
        """A table for each target, then one of the checks."""
        names = dict.fromkeys(line.target for line in self.lines)
        made = [self._table(name) for name in names]
        return [*made, self._checked()] if self.checks else made

    def _table(self, target: str) -> Table:
        lines = [line for line in self.lines if line.target == target]
        methods = [name for name in METHODS if any(name in line.scores for line in lines)]
        gains = any(line.gain is not None for line in lines)
        columns = [(METHODS[name].title, METHODS[name].unit) for name in methods]
        rows = [(line.candidate, _cells(methods, line.scores, line.places, line.gain, gains)) for line in lines]
        before = self.before.get(target, {})
        if before:
            rows.append(("(before)", _cells(methods, before, {}, None, gains)))
        shown = (*columns, *([("gain", "points")] if gains else ()))
        return Table(f"{target}: which task may help", "candidate", shown, tuple(rows), summaries=bool(before))

    def _checked(self) -> Table:
        columns = (("n", ""), ("Spearman", ""), ("Kendall", ""), ("p", ""), ("lost", "points"))
        rows = []
        for one in self.checks:
            cells = f"{one.n}", f"{one.spearman:+.2f}", f"{one.kendall:+.2f}", f"{one.p:.3f}", f"{one.lost:.1f}"
            rows.append((f"{one.target}: {METHODS[one.method].title}", tuple(map(Entry, cells))))
        last = sum(one.target == ALL_TARGETS for one in self.checks)
        return Table("Agreement with the measured gains", "target and method", columns, tuple(rows), summaries=last)


def _cells(
    methods: Sequence[str], scores: Mapping[str, float], places: Mapping[str, int], gain: float | None, gains: bool
) -> tuple[Entry, ...]:
    cells = []
    for name in methods:
        place = f"({places[name]})" if name in places else ""
        score = f"{scores[name]:.{METHODS[name].digits}f}" if name in scores else "-"
        cells.append(Entry(score, place, best=places.get(name) == 1))
    return (*cells, *([Entry("-" if gain is None else f"{gain:+.1f}")] if gains else ()))


@dataclass(frozen=True)
class _Asked:
    """A wish made out: tasks, samples of their data, and the study whose gains are looked up."""

    targets: list[str]
    among: list[str]
    tasks: Mapping[str, Task]
    samples: Mapping[str, Sample]
    known: Measured | None
    encoder: str

    def candidates(self, target: str) -> list[str]:
        """Those of a target, which is never its own."""
        return [name for name in self.among if name != target]


def rank(wish: Wish, say: Callable[[str], None]) -> Ranking:
    """Estimate, for each target, which candidates may help it.

    Without any training: the cosine of the two tasks' mean vectors (TextEmb, Vu et al. 2020, "Exploring and Predicting
    Transferability across NLP Tasks", arXiv:2005.00770; compared with others by Poth et al. 2021, "What to Pre-Train
    on?", arXiv:2104.08247), and what the encoder's features leave untold of a candidate's own labels. With the encoders
    of a run folder: LogME and H-score of each, on the target's training labels, before any training on the target.

    Args:
        wish: what is asked for.
        say: is told how it goes.

    Raises:
        UserError: everything that is wrong with the wish, before an encoder is loaded.
    """
    asked = _asked(wish)
    base = ready(load(asked.encoder))
    seen: dict[str, Seen] = {}
    for name, texts in asked.samples.items():
        say(f"{name}: {len(texts.examples):,} examples")
        seen[name] = see(base, texts)
    notes = [texts.note for texts in asked.samples.values() if texts.note]
    left = {name: value for name in asked.among if (value := _left(name, seen[name], notes)) is not None}
    after: dict[tuple[str, str], dict[str, float]] = {}
    before: dict[str, dict[str, float]] = {}
    if asked.known:
        labelled = [name for name in asked.targets if asked.samples[name].labelled]
        before = {name: found for name in labelled if (found := _fit(name, seen[name], notes))}
        after = _after(asked, [*before], notes, say)
    gains = asked.known.gains() if asked.known else {}
    lines: list[Line] = []
    for target in asked.targets:
        scores = {
            name: {"text": 100 * cosine(seen[target].mean_H, seen[name].mean_H)}
            | ({"left": left[name]} if name in left else {})
            | after.get((target, name), {})
            for name in asked.candidates(target)
        }
        places = {method: _places({name: row[method] for name, row in scores.items() if method in row})
                  for method in METHODS}  # fmt: skip
        for name in sorted(scores, key=lambda name: -scores[name]["text"]):
            own = {method: at[name] for method, at in places.items() if name in at}
            lines.append(Line(target, name, scores[name], own, gains.get((target, name))))
    checks = _checks(asked, lines)
    notes += _shared(asked) + _legend(asked, checks)
    return Ranking(asked.encoder, tuple(lines), before, tuple(checks), tuple(dict.fromkeys(notes)))


def _asked(wish: Wish) -> _Asked:
    """Make out a wish; every mistake in it is told at once, before data are read."""
    folder(wish.data)
    known = measured(wish.run, wish.recipe) if wish.run else None
    if wish.recipe and known is None:
        raise UserError("goes with --run only", where="--recipe")
    tasks = with_own(wish.use)
    found = Collector()
    with found.catch():
        targets = _names(wish.targets, wish.use, [*known.targets] if known else [], "a target is missing")
    with found.catch():
        single = [name for name in known.study.branches if name in tasks] if known else [DEFAULT]
        among = _names(wish.among, wish.use, single, "no branch of the study trains on one known task alone")
    found.raise_any()
    given = known is None or bool(wish.targets and wish.among)
    for name in among:
        if given and name in targets:
            found.add(f"'{name}' is a target and a candidate", hint="leave one of them out")
        if not tasks[name].trainable:
            found.add(f"the candidate '{name}' has no training data")
    if known:
        found.errors += check_names(known, targets, among)
    if len(among) < 2:
        found.add(f"'{''.join(among)}' is the only candidate: there is nothing to rank", where="--among")
    encoder = wish.encoder or (known.encoder if known else "")
    if not encoder:
        found.add("is missing: a folder, or an id of the Hub", where="--encoder")
    elif "{data}" in encoder and wish.data is None:
        found.add("lies beside the data folder", where=encoder, hint="give the data folder with --data")
    found.raise_any()
    samples: dict[str, Sample] = {}
    for name in dict.fromkeys([*targets, *among]):
        with found.catch():
            samples[name] = sample(tasks[name], wish.data, wish.limit)
    found.raise_any()
    return _Asked(targets, among, tasks, samples, known, home(encoder.replace("{data}", str(wish.data))))


def _names(given: Sequence[str], use: Sequence[Path], default: Sequence[str], nothing: str) -> list[str]:
    """The tasks of names that may be groups, or the default ones."""
    if not (given or default):
        raise UserError(nothing, hint="tasks of a recipe's own are named with --use FILE")
    return [task.name for task in chosen(given or default, use)]


def _left(name: str, seen: Seen, notes: list[str]) -> float | None:
    """Per cent of a candidate's labels that the features do not tell; None without labels."""
    if not len(seen.labels_N):
        notes.append(f"{name} has no labels: only its texts are compared")
        return None
    return 100 * (1 - told(seen.features_NH, seen.labels_N))


def _fit(name: str, seen: Seen, notes: list[str]) -> dict[str, float]:
    """LogME and H-score; nothing where the labels cannot be told apart, which is noted."""
    try:
        return {"logme": logme(seen.features_NH, seen.labels_N), "h_score": h_score(seen.features_NH, seen.labels_N)}
    except UserError as error:
        notes.append(f"{name}: {error}")
        return {}


def _after(
    asked: _Asked, targets: Sequence[str], notes: list[str], say: Callable[[str], None]
) -> dict[tuple[str, str], dict[str, float]]:
    """LogME and H-score on the targets' labels of each candidate's encoders, the mean over their seeds."""
    assert asked.known is not None
    result: dict[tuple[str, str], dict[str, float]] = {}
    for name in asked.among:
        places = asked.known.encoders(name)
        if not places:
            notes.append(f"{name}: the run folder has no encoder that was trained on it, or has it no more")
        fits: dict[str, list[dict[str, float]]] = {target: [] for target in targets if target != name}
        for place in places:
            say(f"{name}: {place}")
            trained = ready(load(str(place)))
            for target, rows in fits.items():
                rows += filter(None, [_fit(f"{target} after {name}", see(trained, asked.samples[target]), notes)])
        for target, rows in fits.items():
            if rows:
                result[target, name] = {method: fmean(row[method] for row in rows) for method in rows[0]}
    return result


def _places(scores: Mapping[str, float]) -> dict[str, int]:
    """The place of each, 1 for the highest; equal ones share the better."""
    return {name: 1 + sum(other > score for other in scores.values()) for name, score in scores.items()}


def _checks(asked: _Asked, lines: Sequence[Line]) -> list[Check]:
    """Each method beside the gains: target by target, then the mean over those that have every candidate."""
    checks = []
    for method in METHODS:
        whole: list[tuple[list[float], list[float]]] = []
        for target in asked.targets:
            pairs = [(line.scores[method], line.gain) for line in lines
                     if line.target == target and method in line.scores and line.gain is not None]  # fmt: skip
            both = [score for score, _ in pairs], [gain for _, gain in pairs]
            if found := agree([both[0]], [both[1]]):
                checks.append(_check(target, method, found, [both]))
                whole += [both] if len(pairs) == len(asked.among) else []
        if len(whole) > 1 and (found := agree(*zip(*whole, strict=True))):
            checks.append(_check(ALL_TARGETS, method, found, whole))
    order = [*asked.targets, ALL_TARGETS]
    return sorted(checks, key=lambda one: order.index(one.target))


def _check(target: str, method: str, found: Agreement, pairs: Sequence[tuple[list[float], list[float]]]) -> Check:
    lost = fmean(max(gains) - gains[scores.index(max(scores))] for scores, gains in pairs)
    return Check(target, method, *found, lost)


def _shared(asked: _Asked) -> list[str]:
    """Pairs that are trained on the same data, whose texts are alike for that reason."""
    said = []
    for target in asked.targets:
        own = asked.tasks[target].data.get("train")
        codes = asked.tasks[target].train_languages
        for name in asked.candidates(target):
            if own and own.overlaps(asked.tasks[name].data["train"], codes):
                said.append(f"{name} and {target} are trained on some of the same data")
    return said


def _legend(asked: _Asked, checks: Sequence[Check]) -> list[str]:
    """What the columns mean, and how little a few points can say."""
    said = [
        "(1) is a method's first; the table is in the order of the texts",
        "text: cosine of the mean vectors of the two tasks' texts; left to learn: what of the candidate's own labels "
        "the encoder's features do not tell before any training, whatever the target",
    ]
    if asked.known is None:
        return [
            *said,
            "both are hints: how far they can be trusted is told by --run DIR, beside gains that were measured",
        ]
    said += [
        "LogME, H-score: of the target's training labels, by the features of the encoder after the candidate's "
        "training; (before): without any",
        f"gain: over '{asked.known.study.baseline}', points of the target's main metric, mean over languages, median "
        f"over seeds {', '.join(map(str, asked.known.study.seeds))}",
    ]
    if not checks:
        return [*said, "too few gains are measured to compare orders: three candidates of a target are needed"]
    n = max(one.n for one in checks)
    bound = beyond_chance(n)
    limit = "no correlation is" if bound is None else f"only a Spearman of {bound:.2f} or more, up or down, is"
    few = f"{n} candidates are few points: {limit} rarer than one in twenty by chance"
    said.append(f"{few}, for one target and method; of the {len(checks)} here some look good by luck")
    return said
