"""Comparisons with the baseline: numbers by hand, error rates in simulation, small studies."""

import csv
import io
import json
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from xstilts.analysis.aggregate import build
from xstilts.analysis.resampling import Pair, bootstrap, holm, interval, median_of_drawn_seeds, permutation
from xstilts.metrics import METRICS
from xstilts.reports import StudyResults, render, select, selection_tables, show
from xstilts.reports.significance import SURE, THESE_RUNS, compare
from xstilts.reports.significance_tables import document
from xstilts.store.rows import Prediction, Score
from xstilts.study.index import Cell, Study, StudyTask

WORDS = ("the", "mill", "old", "1894", "des", "Mühle", "磨坊", "")


def some_rows(metric, rng):
    """Random references and predictions of up to 30 examples, right in about half of the cases."""

    def tags():
        return [rng.choice(["O", "B-PER", "I-PER", "I-LOC", "NOUN", "SYM"]) for _ in range(rng.randint(1, 6))]

    def text():
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(0, 3)))

    def ids():
        return rng.sample("abcdefgh", rng.randint(0, 4))

    n = rng.randint(1, 30)
    if metric == "perplexity":
        return [""] * n, [(rng.uniform(0, 20), rng.randint(1, 5)) for _ in range(n)]
    if metric in ("chunk_f1", "token_accuracy"):
        right = [tags() for _ in range(n)]
        return right, [[rng.choice([tag, "O", "NOUN"]) for tag in sentence] for sentence in right]
    if metric in ("pair_f1", "mrr@20", "map@20"):
        return [ids() for _ in range(n)], [ids() for _ in range(n)]
    if metric.endswith(("em", "f1")) and metric not in ("accuracy_f1", "positive_f1"):
        right = [[text() for _ in range(rng.randint(1, 3))] for _ in range(n)]
        return right, [rng.choice([texts[0], text(), None]) for texts in right]
    return [rng.choice("01") for _ in range(n)], [rng.choice("01") for _ in range(n)]


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_can_be_computed_from_the_sums_of_its_parts(metric):
    rng = Random(1)
    for _ in range(50):
        references, predictions = some_rows(metric, rng)
        for language in ("en", "zh"):
            each = METRICS[metric].example_parts(references, predictions, language)
            sample = rng.choices(range(len(references)), k=len(references))
            for chosen in (range(len(references)), sample):
                wanted = METRICS[metric].score(
                    [references[i] for i in chosen], [predictions[i] for i in chosen], language
                )
                assert float(METRICS[metric].combine(each[list(chosen)].sum(0))) == pytest.approx(wanted, abs=1e-9)


def MEAN(sums):
    return sums[..., 0] / sums[..., 1]


def scored(*values):
    """What examples with these scores add, as one run."""
    return np.array([[[value, 1.0] for value in values]])


def test_holm_multiplies_the_smallest_by_all_and_the_next_by_one_less():
    # 0.005 * 4, 0.01 * 3, 0.03 * 2; 0.04 * 1 would be less than the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == [0.03, 0.06, 0.06, 0.02]
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_three_examples_are_permuted_in_all_eight_ways():
    # differences 3, 1, -1 sum to 3; of the sums ±3 ±1 ±1 six of eight are at least as far from 0
    assert permutation([Pair(scored(0, 0, 1), scored(3, 1, 0))], MEAN) == 6 / 8
    # all three better: only +++ and --- are as extreme
    assert permutation([Pair(scored(0, 0, 0), scored(100, 100, 100))], MEAN) == 2 / 8
    # an example in which nothing differs changes nothing
    assert permutation([Pair(scored(0, 0, 0, 7), scored(100, 100, 100, 7))], MEAN) == 2 / 8


def test_identical_systems_differ_by_nothing():
    run = scored(*range(50))
    assert permutation([Pair(run, run)], MEAN) == 1
    scores_BR = bootstrap(np.concatenate([run, run]), MEAN)
    assert interval(scores_BR[:, 1] - scores_BR[:, 0]) == (0, 0)


def test_many_examples_are_permuted_at_random_by_a_fixed_seed():
    pair = Pair(scored(*[0] * 40), scored(*[100] * 15, *[0] * 25))
    p = permutation([pair], MEAN, limit=5000)
    assert p == permutation([pair], MEAN, limit=5000)
    assert p == pytest.approx(1 / 5001, abs=3 / 5001)  # 2 of 2^15 are as extreme
    assert permutation([pair], MEAN, limit=1000) >= 1 / 1001


def test_a_random_permutation_test_agrees_with_the_exact_one():
    pair = Pair(scored(*[0] * 12, *[100] * 4), scored(*[100] * 12, *[0] * 4))  # 16 differ: too many for all ways
    assert permutation([pair], MEAN) == pytest.approx(0.0768, abs=0.02)  # at most 4 or at least 12 of 16 heads


def test_identical_runs_are_no_more_evidence_than_one():
    rng = np.random.default_rng(1)
    first, second = (scored(*rng.integers(0, 2, 200)) for _ in range(2))
    thrice = Pair(np.repeat(first, 3, axis=0), np.repeat(second, 3, axis=0))
    assert permutation([thrice], MEAN) == permutation([Pair(first, second)], MEAN)
    translated = [Pair(first, second)] * 4
    assert permutation(translated, MEAN) == permutation([Pair(first, second)], MEAN)


def test_equal_systems_differ_significantly_in_one_case_of_twenty():
    rng = np.random.default_rng(2)
    accuracy, f1 = [], []
    for _ in range(1000):
        hard = rng.random(100)  # an example is as hard for all runs, two of each side
        runs = (rng.random((4, 100)) < hard)[..., None] * np.array([100.0, 0]) + np.array([0, 1.0])
        accuracy.append(permutation([Pair(runs[:2], runs[2:])], MEAN))
        right, found = rng.integers(1, 5, 100), rng.integers(1, 5, (4, 100))
        both = np.minimum(rng.binomial(right, hard, (4, 100)), found)
        runs = np.stack(np.broadcast_arrays(both, found, right), axis=-1).astype(float)
        f1.append(permutation([Pair(runs[:2], runs[2:])], METRICS["chunk_f1"].combine))
    assert 0.025 < np.mean(np.array(accuracy) < 0.05) < 0.055, "less, for many samples differ as much"
    assert 0.03 < np.mean(np.array(f1) < 0.05) < 0.07


def test_seed_noise_misleads_the_permutation_test_but_not_the_interval():
    rng = np.random.default_rng(3)
    intervals, tests, both = 0, 0, 0
    for _ in range(100):
        skill = 0.6 + 0.03 * rng.standard_normal((6, 1))  # three runs a side, of one kind
        runs = (rng.random((6, 500)) < skill)[..., None] * np.array([100.0, 0]) + np.array([0, 1.0])
        scores_BR = bootstrap(runs, MEAN)
        low, high = interval(median_of_drawn_seeds(scores_BR[:, 3:] - scores_BR[:, :3]))
        p = permutation([Pair(runs[:3], runs[3:])], MEAN)
        intervals += not low <= 0 <= high
        tests += p < 0.05
        both += p < 0.05 and not low <= 0 <= high
    assert tests / 100 > 0.15, "it asks whether these runs differ, and they do"
    assert both <= intervals < 12


# --- studies --------------------------------------------------------------------------------------------------------


def studied(answers, *, metric="accuracy", right=None, languages=("en", "sw"), branches=("none", "mnli"), chance=None):
    """A study whose runs answer as `answers[branch, seed, language]` says; and a function that gives the rows.

    A baseline with seed None was never trained.
    """
    seeds = tuple(sorted({seed for _, seed, _ in answers if seed is not None}))
    task = StudyTask("nli", "classify", metric, (metric,), languages, "en")
    alone = {branch for branch, seed, _ in answers if seed is None}

    def step(branch, seed):
        return branch if branch in alone else f"{branch}-{seed}"

    cells = tuple(Cell(branch, seed, "nli", step(branch, seed)) for branch in branches for seed in seeds)
    scores, rows = [], {}
    for (branch, seed, language), given in answers.items():
        at = step(branch, seed)
        wanted = right or ["y"] * len(given)
        value = METRICS[metric].score(wanted, given, language)
        scores.append(Score("nli", language, "dev", metric, value, len(given), at, "tiny", seed, chance=chance))
        pairs = enumerate(zip(given, wanted, strict=True))
        rows.setdefault(at, []).extend(Prediction("nli", language, "dev", i, str(i), *pair) for i, pair in pairs)
    return Study("mini", "tiny", seeds, branches, branches[0], (task,), cells), scores, rows


def row(found, branch, language):
    [one] = [x for x in found.rows if (x.branch, x.language) == (branch, language)]
    return one


ANSWERS = {
    ("none", 1, "en"): "yyyynnnnnn",
    ("none", 2, "en"): "yyynnnnnnn",
    ("mnli", 1, "en"): "yyyyyyyyyn",
    ("mnli", 2, "en"): "yyyyyyyynn",
    ("none", 1, "sw"): "yyyynnnnnn",
    ("none", 2, "sw"): "yyyynnnnnn",
    ("mnli", 1, "sw"): "yyyynnnnnn",
    ("mnli", 2, "sw"): "yyyynnnnnn",
}


def test_a_branch_is_compared_with_the_baseline_at_the_same_seed_in_each_language():
    study, scores, rows = studied(ANSWERS)
    found = compare(study, scores, rows.__getitem__)
    en, sw, mean = (row(found, "mnli", language) for language in ("en", "sw", "mean"))
    assert (en.median, en.mean, en.min, en.max, en.seeds, en.n) == (85, 85, 80, 90, 2, 10)
    assert en.deviation == pytest.approx(50**0.5)  # of 90 and 80 about 85, divided by 1
    assert en.gain == pytest.approx(50)
    assert en.low < 50 < en.high
    # the second run is better in 4 to 8, the first in 5 to 9: six examples differ, all one way
    assert en.p == 2 / 2**6 and en.adjusted == 2 * en.p
    assert (sw.gain, sw.low, sw.high, sw.p, sw.adjusted) == (0, 0, 0, 1, 1)
    assert mean.gain == pytest.approx(25)
    assert (mean.p, mean.adjusted) == (en.p, en.p), "one branch, so nothing to correct"
    assert row(found, "none", "en").gain is None
    assert not found.untested


def test_an_untrained_baseline_serves_every_seed():
    answers = {key: given for key, given in ANSWERS.items() if key[0] == "mnli"}
    answers |= {("none", None, "en"): "yyyynnnnnn", ("none", None, "sw"): "yyyynnnnnn"}
    study, scores, rows = studied(answers)
    found = compare(study, scores, rows.__getitem__)
    assert row(found, "mnli", "en").gain == pytest.approx(45)
    assert row(found, "none", "en").seeds == 1 and row(found, "none", "en").deviation is None


THREE_SEEDS = {
    ("none", 1, "en"): "yyyynnnnnn", ("none", 2, "en"): "yyynnnnnnn", ("none", 3, "en"): "nnnnnnnnnn",
    ("mnli", 1, "en"): "yyyyynnnnn", ("mnli", 2, "en"): "yyyyynnnnn", ("mnli", 3, "en"): "yyyyyyyyyn",
    ("none", 1, "sw"): "yyyynnnnnn", ("none", 2, "sw"): "yynnnnnnnn", ("none", 3, "sw"): "yynnnnnnnn",
    ("mnli", 1, "sw"): "yyyyyynnnn", ("mnli", 2, "sw"): "ynnnnnnnnn", ("mnli", 3, "sw"): "yyyyynnnnn",
}  # fmt: skip


def test_the_tested_gain_is_the_median_of_the_differences_at_the_same_seed():
    """Differences at seeds 1, 2, 3: en 10, 20, 90; sw 20, -10, 30; their mean 15, 5, 60."""
    study, scores, rows = studied(THREE_SEEDS)
    found = compare(study, scores, rows.__getitem__)
    gains = [row(found, "mnli", language).gain for language in ("en", "sw", "mean", "zero-shot")]
    assert gains == [pytest.approx(x) for x in (20, 20, 15, 20)]
    # English: nine questions differ; each of the 2^9 ways to swap them gives a median of three differences
    medians = []
    for signs in np.ndindex(*[2] * 9):
        differences = [
            sum(10 * (-1) ** sign * ((b == "y") - (a == "y")) for sign, a, b in zip(signs, none, mnli, strict=False))
            for none, mnli in ((THREE_SEEDS["none", x, "en"], THREE_SEEDS["mnli", x, "en"]) for x in (1, 2, 3))
        ]
        medians.append(sorted(differences)[1])
    assert row(found, "mnli", "en").p == np.mean([abs(x) >= 20 for x in medians])


def test_every_layout_shows_the_same_gain():
    study, scores, rows = studied(THREE_SEEDS)
    tested = {(x.branch, x.language): x.gain for x in compare(study, scores, rows.__getitem__).rows}
    reported = {(x.branch, x.language): x.gain for x in build(study, scores).lines}
    assert tested == reported and len(tested) == 8
    unscored = [Score(**{**vars(x), "step": "gone"}) for x in scores]
    assert not any(x.gain for x in build(study, unscored).lines)


def test_a_branch_that_cannot_be_tested_still_has_its_gain():
    study, scores, rows = studied(THREE_SEEDS)
    found = compare(study, scores, lambda step: rows[step][:3])
    assert row(found, "mnli", "mean").gain == pytest.approx(15) and row(found, "mnli", "mean").p is None
    assert "+15.0" in render(document(found), width=200)


def test_zero_shot_leaves_out_every_language_that_the_task_is_trained_on():
    answers = THREE_SEEDS | {(b, s, "de"): THREE_SEEDS[b, s, "en"] for b, s, x in THREE_SEEDS if x == "en"}
    study, scores, rows = studied(answers, languages=("de", "en", "sw"))
    [one] = study.tasks
    both = replace(study, tasks=(replace(one, more_train_languages=("de",)),))
    found = compare(both, scores, rows.__getitem__)
    assert row(found, "mnli", "zero-shot").gain == row(found, "mnli", "sw").gain == pytest.approx(20)
    assert row(found, "mnli", "zero-shot").n == 10 and row(found, "mnli", "mean").n == 30
    [gain] = [x.gain for x in build(both, scores).lines if (x.branch, x.language) == ("mnli", "zero-shot")]
    assert gain == row(found, "mnli", "zero-shot").gain
    every = replace(both, tasks=(replace(one, more_train_languages=("de", "sw")),))
    assert "zero-shot" not in {x.language for x in compare(every, scores, rows.__getitem__).rows}


def test_a_task_without_scores_in_its_training_language_has_one_mean_in_the_tables():
    answers = {key: given for key, given in THREE_SEEDS.items() if key[2] == "sw"}
    study, scores, rows = studied(answers, languages=("sw",))
    found = compare(study, scores, rows.__getitem__)
    assert row(found, "mnli", "zero-shot").p == row(found, "mnli", "mean").p
    text = render(document(found), width=200)
    assert "nli: accuracy, mean over languages" in text and "zero-shot" not in text


def test_missing_seeds_and_runs_without_a_partner_are_named():
    answers = {key: given for key, given in THREE_SEEDS.items() if key[:2] != ("none", 2)}
    study, scores, rows = studied(answers)
    found = compare(study, scores, rows.__getitem__)
    assert row(found, "mnli", "en").paired == 2 and row(found, "mnli", "en").gain == pytest.approx(50)  # of 10, 90
    for text in (render(document(found), width=200), render(show(StudyResults(study, scores)), width=200)):
        assert "not finished or failed, counted nowhere: nli: none (seed 2)" in text
        assert "in no gain, because the baseline lacks the seed: nli: mnli (seed 2)" in text
    assert [cell["seed"] for cell in json.loads(render(document(found), "json"))["missing"]] == [2]
    whole, scores, rows = studied(THREE_SEEDS)
    assert "in no gain" not in render(document(compare(whole, scores, rows.__getitem__)), width=200)


def test_seeds_that_only_one_side_has_are_left_out():
    answers = {key: given for key, given in ANSWERS.items() if key != ("none", 2, "en")}
    study, scores, rows = studied(answers)
    assert row(compare(study, scores, rows.__getitem__), "mnli", "en").gain == pytest.approx(50)  # of seed 1
    other = {("none", 3, "en") if key == ("none", 1, "en") else key: given for key, given in answers.items()}
    study, scores, rows = studied(other)
    found = compare(study, scores, rows.__getitem__)
    assert row(found, "mnli", "en").gain is None
    assert found.untested == {"no seed in common": ("nli en (mnli)",)}


def test_runs_that_cannot_be_paired_are_reported_and_not_tested():
    study, scores, rows = studied(ANSWERS)
    found = compare(study, scores, {**rows, "mnli-1": rows["mnli-1"][:9] + rows["mnli-1"][10:]}.__getitem__)
    assert found.untested == {"predictions do not give the score": ("nli en (mnli)",)}
    assert row(found, "mnli", "sw").p == 1
    unlabelled = [Prediction(**{**vars(x), "reference": None}) for x in rows["mnli-1"]]
    assert row(compare(study, scores, {**rows, "mnli-1": unlabelled}.__getitem__), "mnli", "en").p is None
    moved = [Prediction(**{**vars(x), "index": x.index + 1}) for x in rows["mnli-1"]]
    found = compare(study, scores, {**rows, "mnli-1": moved}.__getitem__)
    assert found.untested == {"the runs have different examples": ("nli en", "nli sw")}
    assert "not tested, the runs have different examples: nli en; nli sw" in render(document(found))


def test_runs_that_differ_by_seed_are_marked_as_these_runs_only():
    many = {
        ("none", 1, "en"): "y" * 100 + "n" * 100,
        ("none", 2, "en"): "y" * 100 + "n" * 100,
        ("mnli", 1, "en"): "y" * 180 + "n" * 20,  # 40 points better
        ("mnli", 2, "en"): "y" * 96 + "n" * 104,  # 2 points worse
    }
    study, scores, rows = studied(many, languages=("en",))
    found = compare(study, scores, rows.__getitem__)
    assert row(found, "mnli", "en").mark == THESE_RUNS
    many["mnli", 2, "en"] = many["mnli", 1, "en"]
    study, scores, rows = studied(many, languages=("en",))
    found = compare(study, scores, rows.__getitem__)
    assert row(found, "mnli", "en").mark == SURE
    assert row(found, "none", "en").mark == ""
    alone, its_scores, its_rows = studied({key: given for key, given in many.items() if key[1] == 1}, languages=("en",))
    one = row(compare(alone, its_scores, its_rows.__getitem__), "mnli", "en")
    assert one.low > 0 and one.paired == 1 and one.mark == THESE_RUNS, "a single seed cannot tell"
    text = render(document(found))
    assert f"{SURE} significant: p < 0.05, and the interval leaves out 0" in text and THESE_RUNS not in text


def test_the_legend_of_a_single_seed_claims_nothing_about_other_seeds():
    better = {("none", 1, "en"): "n" * 40, ("mnli", 1, "en"): "y" * 40}
    study, scores, rows = studied(better, languages=("en",))
    text = render(document(compare(study, scores, rows.__getitem__)), width=200)
    assert f"{THESE_RUNS} with a single seed: significant for this run (p < 0.05); other seeds may differ" in text
    assert f"{SURE} significant" not in text and "resampled" not in text and "over the seeds" not in text
    assert "bootstrap samples of examples" in text and "the two sides' answers are swapped at random" in text


def test_the_legend_of_several_seeds_separates_both_marks_and_single_seeds():
    answers = {
        ("none", 1, "en"): "n" * 40, ("none", 2, "en"): "n" * 40,
        ("mnli", 1, "en"): "y" * 40, ("mnli", 2, "en"): "n" * 40,
        ("qqp", 1, "en"): "y" * 40,
    }  # fmt: skip
    study, scores, rows = studied(answers, languages=("en",), branches=("none", "mnli", "qqp"))
    text = render(document(compare(study, scores, rows.__getitem__)), width=200)
    assert f"{THESE_RUNS} significant for these runs (p < 0.05), but not across resampled seeds" in text
    assert f"{THESE_RUNS} with a single seed" in text and f"{SURE} significant" not in text
    assert "bootstrap samples of seeds and examples" in text


def test_languages_in_no_mean_are_named():
    cut = {key: given for key, given in ANSWERS.items() if key != ("mnli", 2, "sw")}
    study, scores, rows = studied(cut)
    assert "in no mean, for want of scores in some branch or seed: nli (sw)" in render(
        document(compare(study, scores, rows.__getitem__)), "markdown"
    )
    assert "in no mean" in render(selection_tables.document(select(study, scores)), "markdown")
    whole, scores, rows = studied(ANSWERS)
    assert "in no mean" not in render(document(compare(whole, scores, rows.__getitem__)), "markdown")
    assert "in no mean" not in render(selection_tables.document(select(whole, scores)), "markdown")


def test_significance_tables_in_every_format():
    study, scores, rows = studied(ANSWERS, chance=85.0)
    found = document(compare(study, scores, rows.__getitem__))
    text = render(found, width=120)
    assert "nli: accuracy, zero-shot mean over languages, dev" in text and "en English  +50.0" in text
    assert "collapsed: runs within two standard errors of chance in the training language: nli: all" in text
    assert "| mnli | 40.0 | 40.0 | 0.0 | 40.0 | 40.0 | 2 | 2 | +0.0" in render(found, "markdown")
    lead = [line.split("  ")[0] for line in text[text.index("gain over 'none' in each language") :].splitlines()[3:7]]
    assert lead == ["zero-shot", "mean", "en English", "sw Swahili"]
    assert r"\begin{tabular}" in render(found, "latex")
    read = list(csv.DictReader(io.StringIO(render(found, "csv"))))
    written = json.loads(render(found, "json"))["lines"]
    assert [line["language"] for line in written[::2]] == ["zero-shot", "mean", "en", "sw"]
    assert len(read) == len(written) == 8
    assert read[5]["p"] == str(written[5]["p"]) == "0.03125"
    assert read[0]["p"] == "" and written[0]["p"] is None and read[0]["collapsed"] == "1 2"


def test_a_study_of_one_branch_has_only_deviations():
    study, scores, rows = studied({("none", 1, "en"): "yn", ("none", 2, "en"): "yy"}, branches=("none",))
    found = compare(study, scores, rows.__getitem__)
    assert row(found, "none", "en").mean == 75
    assert "difference from" not in render(document(found)) and "mean over languages" in render(document(found))


def test_perplexity_is_compared_unless_infinite():
    answers = {
        ("none", 1, "en"): [(3.0, 1)] * 20,
        ("mnli", 1, "en"): [(2.0, 1)] * 20,
    }
    study, scores, rows = studied(answers, metric="perplexity", languages=("en",))
    lm = row(compare(study, scores, rows.__getitem__), "mnli", "en")
    assert lm.gain == pytest.approx(np.exp(2) - np.exp(3)) and lm.p < 0.01
    answers["mnli", 1, "en"] = answers["mnli", 2, "en"] = [(800.0, 1)] * 20
    study, scores, rows = studied(answers, metric="perplexity", languages=("en",))
    endless = row(compare(study, scores, rows.__getitem__), "mnli", "en")
    assert (endless.median, endless.deviation, endless.p) == (float("inf"), None, None)
