"""Selected runs of small studies, chosen by hand."""

import csv
import dataclasses
import io
import json
import random

import pytest

from xstilts.analysis.selection import RULES, best_evaluations
from xstilts.reports import render, select
from xstilts.reports.selection_tables import document
from xstilts.store.rows import Score
from xstilts.study.index import Cell, Study, StudyTask


def task(name="nli", languages=("en", "sw"), metrics=("accuracy",)):
    return StudyTask(name, "classify", metrics[0], metrics, tuple(languages), "en")


def study(*tasks, branches=("none", "mnli", "squad"), seeds=(1, 2, 3), baseline="none"):
    cells = [Cell(b, s, t.name, f"{t.name}-{b}-{s}") for b in branches for s in seeds for t in tasks]
    return Study("mini", "tiny", seeds, branches, baseline, tasks, tuple(cells))


def rows(branch, language, split, values, task="nli", metric="accuracy"):
    """The scores of seeds 1, 2, ... in order."""
    return [
        Score(task, language, split, metric, value, 100, f"{task}-{branch}-{seed}", "tiny", seed)
        for seed, value in enumerate(values, start=1)
    ]


SCORES = [
    *rows("none", "en", "dev", [90, 90, 90]),
    *rows("none", "sw", "dev", [50, 50, 50]),
    *rows("mnli", "en", "dev", [80, 81, 70]),
    *rows("mnli", "sw", "dev", [64, 65, 80]),  # means 72, 73, 75: median 73
    *rows("squad", "en", "dev", [85, 60, 60]),
    *rows("squad", "sw", "dev", [75, 60, 60]),  # means 80, 60, 60: median 60
    *rows("none", "en", "test", [88, 87, 86]),
    *rows("none", "sw", "test", [48, 47, 46]),  # means 68, 67, 66
    *rows("mnli", "en", "test", [80, 80, 70]),
    *rows("mnli", "sw", "test", [60, 60, 76]),  # means 70, 70, 73
    *rows("squad", "en", "test", [90, 60, 60]),
    *rows("squad", "sw", "test", [70, 60, 60]),  # means 80, 60, 60
]


def chosen(selection, rule, task="nli"):
    found = selection.of(rule)[task]
    return found.branch, found.seed, found.score


def test_the_paper_selects_the_branch_with_the_best_median_then_its_best_run():
    selection = select(study(task()), SCORES)
    assert chosen(selection, "paper") == ("mnli", 3, 73)  # squad has the best single run, but not the best median
    assert selection.of("paper")["nli"].selected_by == 75
    assert selection.of("paper")["nli"].selected_on == "dev" and not selection.of("paper")["nli"].reused


def test_english_dev_dev_oracle_and_baseline_select_as_defined():
    selection = select(study(task()), SCORES)
    assert chosen(selection, "english-dev") == ("none", 1, 68)  # all its runs have 90, so the first
    assert chosen(selection, "dev") == ("mnli", 3, 73)
    assert chosen(selection, "oracle") == ("squad", 1, 80)
    assert chosen(selection, "baseline") == ("none", None, 67)


def test_english_dev_uses_every_language_that_the_task_is_trained_on():
    both = dataclasses.replace(task(), more_train_languages=("sw",))
    assert chosen(select(study(both), SCORES), "english-dev") == ("mnli", 3, 73)  # as dev: there is no other language


def with_a_better_baseline(name):
    """The scores of a task of this name, with a baseline that beats every branch on dev and test."""
    scores = [dataclasses.replace(s, task=name, step=s.step.replace("nli-", f"{name}-", 1)) for s in SCORES]
    better = [s for s in scores if not s.step.startswith(f"{name}-none")]
    return better + [
        s for x in ("en", "sw") for split in ("dev", "test") for s in rows("none", x, split, [95, 95, 96], name)
    ]


def test_the_papers_rule_never_selects_the_baseline_of_a_task_of_the_catalogue():
    selection = select(study(task("xnli")), with_a_better_baseline("xnli"))
    assert chosen(selection, "dev", "xnli") == chosen(selection, "oracle", "xnli") == ("none", 3, 96)
    assert chosen(selection, "paper", "xnli") == ("mnli", 3, 73)
    assert selection.best() == selection.of("paper")


def test_the_baseline_is_a_candidate_of_every_rule_for_ones_own_task():
    selection = select(study(task("reviews")), with_a_better_baseline("reviews"))
    for rule in RULES:
        assert chosen(selection, rule, "reviews") == ("none", 3, 96)


def test_the_best_run_of_ones_own_task_needs_no_labels_of_the_target_languages():
    one = study(task("reviews"), task("pairs", ["sw"]), task("xnli"))
    scores = [dataclasses.replace(s, task="reviews", step=s.step.replace("nli", "reviews", 1)) for s in SCORES]
    scores += with_a_better_baseline("xnli")
    scores += [
        s
        for branch, x in (("none", 10), ("mnli", 30), ("squad", 20))
        for split in ("dev", "test")
        for s in rows(branch, "sw", split, [x] * 3, "pairs")
    ]
    best = select(one, scores).best()
    assert {name: (run.rule, run.branch, run.seed) for name, run in best.items()} == {
        "reviews": ("english-dev", "none", 1),
        "pairs": ("dev", "mnli", 1),  # no English, so nothing else to select by
        "xnli": ("paper", "mnli", 3),
    }


def test_the_papers_rule_selects_no_baseline_of_any_encoder() -> None:
    """`none` and `squad` are two encoders as they are, `mnli` comes after the first; the second is best on dev."""
    against = {"none": "none", "mnli": "none", "squad": "squad"}
    two = dataclasses.replace(study(task("xnli"), baseline=None), baselines=against)
    best = [s for s in with_a_better_baseline("xnli") if s.step[5:10] not in ("none-", "squad")]
    for x, values in (("en", [88, 87, 86]), ("sw", [48, 47, 46])):
        best += [s for split in ("dev", "test") for s in rows("none", x, split, values, "xnli")]
        best += [s for split in ("dev", "test") for s in rows("squad", x, split, [95, 95, 96], "xnli")]
    assert two.baseline_branches == ("none", "squad")
    assert chosen(select(two, best), "dev", "xnli") == ("squad", 3, 96)
    assert chosen(select(two, best), "paper", "xnli") == ("mnli", 3, 73)


def test_languages_without_dev_are_not_used_for_selection():
    one = study(task(languages=["en", "sw", "yo"]))
    more = [s for b, x in (("none", 0), ("mnli", 0), ("squad", 99)) for s in rows(b, "yo", "test", [x, x, x])]
    assert chosen(select(one, SCORES + more), "paper") == ("mnli", 3, pytest.approx(146 / 3))


def test_a_task_without_dev_is_selected_on_test_and_marked():
    test = [score for score in SCORES if score.split == "test"]
    selection = select(study(task()), test)
    found = selection.of("paper")["nli"]
    assert (found.branch, found.seed, found.selected_on, found.reused) == ("mnli", 3, "test", True)
    assert chosen(selection, "english-dev") == ("none", 1, 68) and selection.of("english-dev")["nli"].reused
    text = render(document(selection))
    assert "signed numbers: one run minus the baseline's median" in text and "gain" not in text
    assert "73.0† +6.0" in text and "† selected on the scores that are shown: nli" in text


def test_a_task_without_test_shows_its_dev_scores_and_is_marked():
    selection = select(study(task()), [score for score in SCORES if score.split == "dev"])
    assert chosen(selection, "paper") == ("mnli", 3, 75)
    assert selection.of("paper")["nli"].reused and selection.of("paper")["nli"].split == "dev"


def test_tasks_without_english_have_no_english_dev_selection():
    tatoeba = task("pairs", ["sw"])
    one = study(task(), tatoeba, task("more"))
    scores = [*SCORES, *(s for b in one.branches for x in ("en", "sw") for s in rows(b, x, "dev", [1, 1, 1], "more"))]
    scores += [
        s for b, x in zip(one.branches, (10, 20, 30), strict=True) for s in rows(b, "sw", "test", [x] * 3, "pairs")
    ]
    selection = select(one, scores)
    assert selection.of("english-dev").keys() == {"nli", "more"}
    assert chosen(selection, "paper", "pairs") == ("squad", 1, 30)
    means = {(x.task, x.rule): x.score for x in selection.selected_runs if not x.branch}
    assert means["all tasks", "paper"] == pytest.approx((73 + 30 + 1) / 3)
    assert ("all tasks", "english-dev") not in means
    assert means["tasks of all rules", "english-dev"] == pytest.approx((68 + 1) / 2)
    assert means["tasks of all rules", "paper"] == pytest.approx((73 + 1) / 2)
    text = render(document(selection), "markdown")
    assert "| pairs accuracy | 10.0 | - |" in text and "| all tasks | 26.0 | - |" in text


def test_an_unfinished_run_is_no_candidate():
    scores = [s for s in SCORES if not (s.step == "nli-mnli-3" and s.split == "test")]
    assert chosen(select(study(task()), scores), "paper") == ("mnli", 2, 70)
    assert select(study(task()), []).selected_runs == ()
    assert render(document(select(study(task()), []))).startswith("baseline: ")


def test_a_lower_is_better_metric_selects_the_lowest():
    lm = study(task("lm", ["en"], ["perplexity"]))
    scores = [
        s
        for b, x in zip(lm.branches, (9, 7, 8), strict=True)
        for s in rows(b, "en", "dev", [x, x - 1], "lm", "perplexity")
    ]
    assert chosen(select(lm, scores), "dev", "lm") == chosen(select(lm, scores), "oracle", "lm") == ("mnli", 2, 6)
    assert "lm perplexity ↓" in render(document(select(lm, scores)))


def test_question_answering_shows_f1_and_exact_match_beside_their_mean():
    qa = study(task("qa", ["en"], ["f1_em", "f1", "em"]), seeds=(1,), branches=("none", "squad"))
    values = {"f1_em": (60, 70), "f1": (70, 75), "em": (50, 65)}
    scores = [
        s
        for metric, pair in values.items()
        for b, x in zip(qa.branches, pair, strict=True)
        for split in ("dev", "test")
        for s in rows(b, "en", split, [x], "qa", metric)
    ]
    by_metric = {x.metric: x.score for x in select(qa, scores).selected_runs if x.rule == "paper"}
    assert by_metric == {"f1_em": 70, "f1": 75, "em": 65}
    assert "qa f1_em" in render(document(select(qa, scores))) and "qa em" in render(document(select(qa, scores)))


def test_one_run_for_all_seeds_and_a_study_without_a_baseline():
    one = study(task(), branches=("a", "b"), baseline=None)
    alike = [
        Score("nli", x, split, "accuracy", 99, 100, f"nli-b-{seed}", "tiny", None)
        for x in ("en", "sw")
        for split in ("dev", "test")
        for seed in (1, 2, 3)
    ]
    scores = [s for x in ("en", "sw") for split in ("dev", "test") for s in rows("a", x, split, [60, 70, 65])] + alike
    selection = select(one, scores)
    assert chosen(selection, "paper") == ("b", None, 99)
    assert {x.rule for x in selection.selected_runs} == {*RULES}
    assert "baseline: " not in render(document(selection))


def test_csv_and_json_hold_every_digit():
    selection = select(study(task()), SCORES)
    read = list(csv.DictReader(io.StringIO(render(document(selection), "csv"))))
    written = json.loads(render(document(selection), "json"))["lines"]
    assert len(read) == len(written) == 5
    assert read[3] == {key: "" if value is None else str(value) for key, value in written[3].items()}
    assert (written[3]["rule"], written[3]["branch"], written[3]["seed"]) == ("paper", "mnli", 3)
    assert "| nli | none, 1 | mnli, 3 | mnli, 3 | squad, 1 |" in render(document(selection), "markdown")
    assert r"\begin{tabular}{lrrrrr}" in render(document(selection), "latex")
    odd = [dataclasses.replace(score, step=score.step.replace("mnli", "m_nli & co")) for score in SCORES]
    latex = render(document(select(study(task(), branches=("none", "m_nli & co", "squad")), odd)), "latex")
    assert r"nli & none, 1 & m\_nli \& co, 3 & m\_nli \& co, 3 & squad, 1 \\" in latex


def best_of(scores, plan, finished):
    """The evaluations that `keep: best` keeps when these are finished."""
    return best_evaluations(plan, plan.targets[0], [row for row in scores if row.step in finished], finished)


@pytest.mark.parametrize("metric", ["accuracy", "perplexity"])
def test_the_run_that_stays_is_the_one_english_dev_selects_in_whatever_order_runs_finish(metric):
    """Random scores, with ties and collapsed runs: what is kept on the way never lacks the run selected at the end."""
    plan = study(task(metrics=(metric,)))
    steps = [cell.step for cell in plan.cells]
    rng = random.Random(3)
    for _ in range(200):
        scores = [
            row
            for branch in plan.branches
            for language in ("en", "sw")
            for split in ("dev", "test")
            for row in rows(branch, language, split, rng.choices([33, 60, 61, 70], k=3), metric=metric)
        ]
        run = select(plan, scores).of("english-dev")["nli"]
        assert best_of(scores, plan, steps) == [f"nli-{run.branch}-{run.seed}"]
        kept, order = set(), rng.sample(steps, len(steps))
        for count in range(1, len(order) + 1):
            (current, *others) = best_of(scores, plan, order[:count])
            kept = {current, *others} & (kept | {order[count - 1]})  # a removed encoder does not come back
            assert current in kept and len(kept) <= 1 + sum(
                any(cell.branch == branch and cell.step not in order[:count] for cell in plan.cells)
                for branch in plan.branches
            )
        assert kept == {f"nli-{run.branch}-{run.seed}"}


def test_a_run_without_dev_scores_in_the_training_language_is_kept_by_other_languages_or_is_the_first():
    plan = study(task())
    steps = [cell.step for cell in plan.cells]
    swahili = [row for row in SCORES if (row.language, row.split) == ("sw", "dev")]
    test = [row for row in SCORES if row.split == "test"]
    assert best_of([*swahili, *test], plan, steps) == ["nli-mnli-3"]
    assert best_of(test, plan, steps) == ["nli-none-1"]
    assert best_of([], plan, steps) == ["nli-none-1"], "predicted, not scored"
    assert best_of([], plan, []) == []
