"""Rankings: for each target the candidates with their estimates, and how these agree with measured gains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, NamedTuple

from xstilts.analysis.rank_correlation import Agreement, rank_agreement
from xstilts.errors import UserError
from xstilts.model.encoder import Encoder, for_inference, load
from xstilts.rank.embeddings import Embeddings, embed
from xstilts.rank.estimators import cosine, h_score, label_fit, logme
from xstilts.rank.request import RankRequest, ResolvedRequest, resolve

ALL_TARGETS = "mean"


class Method(NamedTuple):
    """An estimate; the highest value is ranked first."""

    title: str
    unit: str
    digits: int


METHODS = {
    "text": Method("text", "100 cos", 2),
    "left": Method("left to learn", "%", 1),
    "logme": Method("LogME", "nats", 4),
    "h_score": Method("H-score", "", 3),
}


@dataclass(frozen=True)
class Candidate:
    """A candidate for a target: its score and its place by each method, and the measured gain."""

    target: str
    candidate: str
    scores: Mapping[str, float]
    places: Mapping[str, int]
    gain: float | None


@dataclass(frozen=True)
class GainAgreement:
    """How well a method's order agrees with the measured gains; `target` is `mean` for the mean over targets."""

    target: str
    method: str
    n: int
    spearman: float
    kendall: float
    p: float
    lost: float
    """The best candidate's gain minus that of the method's first candidate, in points."""


@dataclass(frozen=True)
class Ranking:
    """The candidates of each target, most similar texts first; with measured gains also the agreement with them."""

    encoder: str
    lines: tuple[Candidate, ...]
    before: Mapping[str, Mapping[str, float]]
    """For each target LogME and H-score of the encoder before any intermediate training."""
    baseline: str | None
    """The branch that gains are measured against; None without measured gains."""
    seeds: tuple[int, ...]
    checks: tuple[GainAgreement, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """One JSON document."""
        return {
            "encoder": self.encoder,
            "lines": [asdict(line) for line in self.lines],
            "before": self.before,
            "baseline": self.baseline,
            "seeds": self.seeds,
            "checks": [asdict(check) for check in self.checks],
            "notes": self.notes,
        }


def rank(request: RankRequest, say: Callable[[str], None]) -> Ranking:
    """Estimate, for each target, which candidates may help it.

    Without any training: the cosine of the two tasks' mean vectors (TextEmb, Vu et al. 2020, "Exploring and Predicting
    Transferability across NLP Tasks", arXiv:2005.00770; compared with others by Poth et al. 2021, "What to Pre-Train
    on?", arXiv:2104.08247), and the share of a candidate's own labels that the features do not predict.

    With the encoders of a run folder: LogME and H-score of each on the target's training labels, before any training
    on the target.

    Args:
        request: the targets, the candidates, the encoder or run folder.
        say: shows a line of progress.

    Raises:
        UserError: lists all mistakes in the request, before an encoder is loaded.
    """
    resolved = resolve(request)
    notes: list[str] = []
    base = _loaded(resolved.encoder, notes)
    embeddings: dict[str, Embeddings] = {}
    for name, texts in resolved.samples.items():
        say(f"{name}: {len(texts.examples):,} examples")
        embeddings[name] = embed(base, texts)
    notes += [texts.note for texts in resolved.samples.values() if texts.note]
    left = {
        name: value
        for name in resolved.among
        if (value := _unexplained_labels(name, embeddings[name], notes)) is not None
    }
    after: dict[tuple[str, str], dict[str, float]] = {}
    before: dict[str, dict[str, float]] = {}
    if resolved.study_gains:
        labelled = [name for name in resolved.targets if resolved.samples[name].labelled]
        before = {name: found for name in labelled if (found := _estimates(name, embeddings[name], notes))}
        after = _estimates_after_training(resolved, [*before], notes, say)
    lines = _candidates(resolved, embeddings, left, after)
    checks = _gain_agreements(resolved, lines)
    notes += _shared_data_notes(resolved)
    study = resolved.study_gains.study if resolved.study_gains else None
    baseline, seeds = (study.baseline, study.seeds) if study else (None, ())
    return Ranking(resolved.encoder, tuple(lines), before, baseline, seeds, tuple(checks), tuple(dict.fromkeys(notes)))


def _loaded(name: str, notes: list[str]) -> Encoder:
    """An encoder on the device, with a note if it does not pack there."""
    encoder = for_inference(load(name))
    if note := encoder.check_packing("fp32"):
        notes.append(note)
    return encoder


def _candidates(
    resolved: ResolvedRequest,
    embeddings: Mapping[str, Embeddings],
    left: Mapping[str, float],
    after: Mapping[tuple[str, str], dict[str, float]],
) -> list[Candidate]:
    """Each target's candidates, most similar texts first."""
    gains = resolved.study_gains.gains() if resolved.study_gains else {}
    lines = []
    for target in resolved.targets:
        scores = {
            name: {"text": 100 * cosine(embeddings[target].mean_H, embeddings[name].mean_H)}
            | ({"left": left[name]} if name in left else {})
            | after.get((target, name), {})
            for name in resolved.candidates(target)
        }
        places = {method: _places({name: row[method] for name, row in scores.items() if method in row})
                  for method in METHODS}  # fmt: skip
        for name in sorted(scores, key=lambda name: -scores[name]["text"]):
            own = {method: at[name] for method, at in places.items() if name in at}
            lines.append(Candidate(target, name, scores[name], own, gains.get((target, name))))
    return lines


def _unexplained_labels(name: str, embeddings: Embeddings, notes: list[str]) -> float | None:
    """Per cent of a candidate's labels that the features do not predict; None without labels."""
    if not len(embeddings.labels_N):
        notes.append(f"{name} has no labels: only its texts are compared")
        return None
    try:
        return 100 * (1 - label_fit(embeddings.features_NH, embeddings.labels_N))
    except UserError as error:
        notes.append(f"{name}: {error}")
        return None


def _estimates(name: str, embeddings: Embeddings, notes: list[str]) -> dict[str, float]:
    """LogME and H-score; empty, with a note, if there are no different labels."""
    try:
        return {
            "logme": logme(embeddings.features_NH, embeddings.labels_N),
            "h_score": h_score(embeddings.features_NH, embeddings.labels_N),
        }
    except UserError as error:
        notes.append(f"{name}: {error}")
        return {}


def _estimates_after_training(
    resolved: ResolvedRequest, targets: Sequence[str], notes: list[str], say: Callable[[str], None]
) -> dict[tuple[str, str], dict[str, float]]:
    """LogME and H-score on the targets' labels of each candidate's encoders, the mean over their seeds."""
    assert resolved.study_gains is not None
    result: dict[tuple[str, str], dict[str, float]] = {}
    encoders = {name: resolved.study_gains.encoders(name) for name in resolved.among}
    if lacking := [name for name, places in encoders.items() if not places]:
        notes.append(
            f"the run folder has no encoder (any more) that was trained on {', '.join(lacking)}; "
            "`keep: intermediate` keeps them"
        )
    for name, places in encoders.items():
        fits: dict[str, list[dict[str, float]]] = {target: [] for target in targets if target != name}
        for place in places:
            say(f"{name}: {place}")
            trained = _loaded(str(place), notes)
            for target, rows in fits.items():
                rows += filter(
                    None, [_estimates(f"{target} after {name}", embed(trained, resolved.samples[target]), notes)]
                )
        for target, rows in fits.items():
            if rows:
                result[target, name] = {method: fmean(row[method] for row in rows) for method in rows[0]}
    return result


def _places(scores: Mapping[str, float]) -> dict[str, int]:
    """The place of each candidate, 1 for the highest score; equal scores share the better place."""
    return {name: 1 + sum(other > score for other in scores.values()) for name, score in scores.items()}


def _gain_agreements(resolved: ResolvedRequest, lines: Sequence[Candidate]) -> list[GainAgreement]:
    """Each method's agreement with the gains: by target, then the mean over targets with every candidate."""
    checks = []
    by_name = sorted(lines, key=lambda line: line.candidate)  # in one order for all targets: candidates are permuted
    for method in METHODS:
        whole: list[tuple[list[float], list[float]]] = []
        for target in resolved.targets:
            pairs = [(line.scores[method], line.gain) for line in by_name
                     if line.target == target and method in line.scores and line.gain is not None]  # fmt: skip
            both = [score for score, _ in pairs], [gain for _, gain in pairs]
            if found := rank_agreement([both[0]], [both[1]]):
                checks.append(_gain_agreement(target, method, found, [both]))
                whole += [both] if len(pairs) == len(resolved.among) else []
        if len(whole) > 1 and (found := rank_agreement(*zip(*whole, strict=True))):
            checks.append(_gain_agreement(ALL_TARGETS, method, found, whole))
    order = [*resolved.targets, ALL_TARGETS]
    return sorted(checks, key=lambda one: order.index(one.target))


def _gain_agreement(
    target: str, method: str, found: Agreement, pairs: Sequence[tuple[list[float], list[float]]]
) -> GainAgreement:
    lost = fmean(max(gains) - gains[scores.index(max(scores))] for scores, gains in pairs)
    return GainAgreement(target, method, *found, lost)


def _shared_data_notes(resolved: ResolvedRequest) -> list[str]:
    """Candidates that share training data with a target, which makes their texts alike."""
    pairs = []
    for target in resolved.targets:
        own = resolved.tasks[target].data.get("train")
        codes = resolved.tasks[target].train_languages
        for name in resolved.candidates(target):
            if own and own.overlaps(resolved.tasks[name].data["train"], codes):
                pairs.append(f"{name} and {target} are trained on some of the same data")
    return pairs
