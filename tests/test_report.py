"""Reports of small studies, with numbers by hand."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from xstilts.analysis.aggregate import build
from xstilts.errors import UserError
from xstilts.reports import ALL_TASKS, MEAN, StudyResults, render, show
from xstilts.reports.study_tables import document
from xstilts.store.rows import Score
from xstilts.study.index import Cell, Study, StudyTask


def task(name="nli", languages=("en", "sw"), metric="accuracy"):
    return StudyTask(name, "classify", metric, (metric,), tuple(languages), "en")


def study(*tasks, branches=("none", "mnli"), seeds=(1, 2, 3)):
    """Each cell has a step of its own, named after it."""
    cells = [Cell(b, s, t.name, f"{t.name}-{b}-{s}") for b in branches for s in seeds for t in tasks]
    return Study("mini", "tiny", seeds, branches, branches[0], tasks, tuple(cells))


def rows(branch, language, values, task="nli", split="dev", metric="accuracy", n=100):
    """The scores of seeds 1, 2, ... in order."""
    return [
        Score(task, language, split, metric, value, n, f"{task}-{branch}-{seed}", "tiny", seed)
        for seed, value in enumerate(values, start=1)
    ]


def text_of(report, *form, **window):
    return render(document(report), *form, **window)


def line(report, branch, language, task="nli"):
    [found] = [x for x in report.lines if (x.branch, x.language, x.task) == (branch, language, task)]
    return found


SCORES = [
    *rows("none", "en", [80, 70, 75]),
    *rows("none", "sw", [60, 50, 55], n=20),  # means 70, 60, 65
    *rows("mnli", "en", [81, 78, 76]),
    *rows("mnli", "sw", [61, 60, 56], n=20),  # means 71, 69, 66
]


def test_mean_over_languages_then_median_over_seeds():
    mean = line(build(study(task()), SCORES), "none", "mean")
    assert (mean.median, mean.min, mean.max, mean.seeds, mean.n) == (65, 60, 70, 3, 120)


def test_a_gain_is_the_median_of_differences_at_the_same_seed():
    report = build(study(task()), SCORES)
    assert line(report, "mnli", "mean").gain == 1  # of 1, 9, 1; the medians differ by 4
    assert line(report, "mnli", "zero-shot").gain == 1  # of 1, 10, 1
    assert line(report, "mnli", "en").gain == 1  # of 1, 8, 1
    assert line(report, "none", "mean").gain is None


def test_a_baseline_without_a_seed_serves_every_seed():
    made = study(task(languages=["sw"]))
    one_step = tuple(replace(x, step="untrained") if x.branch == "none" else x for x in made.cells)
    untrained = [Score("nli", "sw", "dev", "accuracy", 50, 100, "untrained", "tiny", None)]
    report = build(replace(made, cells=one_step), untrained + rows("mnli", "sw", [60, 55, 70]))
    assert line(report, "none", "mean").seeds == 1
    assert line(report, "mnli", "mean").gain == 10  # of 10, 5, 20
    assert not report.missing


def test_a_shared_step_counts_for_every_branch_that_has_it():
    shared = Study("m", "tiny", (1,), ("a", "b"), "a", (task(),), (Cell("a", 1, "nli", "x"), Cell("b", 1, "nli", "x")))
    report = build(shared, [Score("nli", "sw", "dev", "accuracy", 50, 100, "x", "tiny", 1)])
    assert [line(report, branch, "mean").median for branch in "ab"] == [50, 50]


def test_an_unfinished_cell_is_a_dash_and_is_named():
    report = build(study(task()), [score for score in SCORES if score.step.startswith("nli-none")])
    text = text_of(report)
    assert "\nmnli" in text and "mnli          -" in text
    assert "not finished or failed, counted nowhere: nli: mnli\n" in text
    assert line(report, "none", "mean").median == 65


def test_a_failed_seed_is_not_counted_as_zero():
    report = build(study(task()), [score for score in SCORES if score.step != "nli-mnli-2"])
    mean = line(report, "mnli", "mean")
    assert (mean.median, mean.seeds, mean.gain) == (68.5, 2, 1)  # of 71, 66
    assert report.missing == (Cell("mnli", 2, "nli", "nli-mnli-2"),)


def test_a_language_that_a_branch_lacks_is_in_no_mean():
    report = build(study(task(languages=["en", "sw", "ka"])), [*SCORES, *rows("none", "ka", [0, 0, 0])])
    assert line(report, "none", "mean").median == 65
    assert report.left_out == {"nli": ("ka",)}
    text = text_of(report)
    assert "ka Georgian‡" in text and "‡ in no mean, for want of scores in some branch or seed: nli (ka)" in text


def test_without_dev_scores_test_is_shown_and_marked():
    scores = rows("none", "en", [80]) + rows("none", "yo", [30], split="test")
    one = study(task(languages=["en", "yo"]), branches=("none",), seeds=(1,))
    report = build(one, scores)
    assert line(report, "none", "mean").median == 55
    assert line(report, "none", "mean").split == "dev+test"
    text = text_of(report)
    assert "nli: accuracy, dev, test where marked †" in text and "yo Yoruba†" in text
    assert "† test, because not every language has dev scores: nli (yo)" in text
    report = build(one, [*scores, *rows("none", "en", [82], split="test")])
    assert (line(report, "none", "mean").median, line(report, "none", "mean").split) == (56, "test")
    assert "nli: accuracy, test" in text_of(report) and "†" not in text_of(report)  # one split has all languages


def test_a_task_scored_only_on_test_says_so():
    text = text_of(build(study(task(), seeds=(1,)), rows("none", "sw", [30], split="test")))
    assert "nli: accuracy, test" in text and "†" not in text


def test_a_lower_is_better_metric_keeps_its_sign_and_is_marked():
    lm = task("lm", ["en"], "perplexity")
    scores = [s for b, x in (("none", 9.0), ("mnli", 7.5)) for s in rows(b, "en", [x], "lm", metric="perplexity")]
    report = build(study(lm, task(), seeds=(1,)), scores + [s for s in SCORES if s.seed == 1])
    assert line(report, "mnli", "mean", "lm").gain == -1.5
    assert "perplexity ↓" in text_of(report) and "↓ lower is better" in text_of(report)
    assert "**7.5** (-1.5)" in text_of(report, "markdown")
    assert not [x for x in report.lines if x.task == "all tasks"]  # percentages only


def test_the_mean_over_tasks_needs_every_task():
    scores = [*SCORES, *rows("none", "en", [10, 20, 30], "qa")]
    report = build(study(task(), task("qa", ["en"])), scores)
    assert line(report, "none", "mean", "all tasks").median == 40  # of (70, 60, 65) and (10, 20, 30): 40, 40, 47.5
    assert not [x for x in report.lines if (x.task, x.branch) == ("all tasks", "mnli")]


def test_csv_and_json_hold_every_number():
    report = build(study(task()), SCORES)
    read = list(csv.DictReader(io.StringIO(text_of(report, "csv"))))
    written = json.loads(text_of(report, "json"))["lines"]
    assert len(read) == len(written) == 8  # two branches: en, sw, mean, zero-shot
    for a, b in zip(read, written, strict=True):
        b["collapsed"] = " ".join(map(str, b["collapsed"]))
        assert a == {key: "" if value is None else str(value) for key, value in b.items()}
    columns = ["task", "branch", "language", "split", "metric", "median", "min", "max", "seeds", "n", "gain"]
    columns += ["chance", "collapsed"]
    assert list(read[0]) == columns


def with_chance(scores, chance):
    return [replace(score, chance=chance) for score in scores]


COLLAPSED = with_chance(
    [
        *rows("none", "en", [80, 80, 80]),
        *rows("none", "sw", [50, 50, 50]),
        *rows("mnli", "en", [50, 80, 59]),  # of 100 examples, up to 60 are within noise of 50
        *rows("mnli", "sw", [50, 50, 49]),
    ],
    50,
)


def test_runs_at_chance_in_the_training_language_are_marked_and_stay_in_the_median():
    report = build(study(task()), COLLAPSED)
    assert line(report, "mnli", "en").collapsed == line(report, "mnli", "mean").collapsed == (1, 3)
    assert (line(report, "mnli", "en").median, line(report, "mnli", "en").chance) == (59, 50)
    assert not [x for x in report.lines if x.branch == "none" and x.collapsed], "Swahili alone at chance"
    assert line(report, "mnli", "sw").collapsed == ()
    note = "two standard errors of chance in the training language: nli: mnli 2 of 3 runs (seeds 1, 3)"
    for format in ("table", "markdown", "latex"):
        assert note in " ".join(text_of(report, format).split())
    assert "| mnli | 54.0§ ±7.5 (-11.0) |" in text_of(report, "markdown")
    assert r"mnli & 54.0\S{} $\pm$7.5 (-11.0) \\" in text_of(report, "latex")
    assert "59.0§ ±15.0 -21.0\n" in text_of(report) and "50.0   ±0.5  +0.0\n" in text_of(report)
    read = csv.DictReader(io.StringIO(text_of(report, "csv")))
    assert next(row for row in read if row["collapsed"])["collapsed"] == "1 3"
    assert {tuple(row["collapsed"]) for row in json.loads(text_of(report, "json"))["lines"]} == {(), (1, 3)}


def test_only_the_shown_split_counts_for_collapse():
    one = study(task(languages=["en"]), branches=("none",), seeds=(1,))
    scores = with_chance([*rows("none", "en", [55]), *rows("none", "en", [55], split="test", n=10_000)], 50)
    assert line(build(one, scores), "none", "en").collapsed == (1,)
    report = build(one, scores, split="test")
    assert line(report, "none", "en").collapsed == ()  # of 10,000 examples, 55 is no accident
    assert "§" not in text_of(report)


def test_rows_without_chance_and_tasks_trained_elsewhere_are_not_marked():
    assert not [x for x in build(study(task()), with_chance(COLLAPSED, None)).lines if x.collapsed]
    swahili = [x for x in COLLAPSED if x.language == "sw"]
    assert swahili and not [x for x in build(study(task(languages=["sw"])), swahili).lines if x.collapsed]


def test_a_collapsed_run_without_a_seed_is_named_without_one():
    one = study(task(languages=["en"]), branches=("none",), seeds=(1, 2))
    scores = with_chance([Score("nli", "en", "dev", "accuracy", 50, 100, "nli-none-1", "tiny", None)], 50)
    report = build(
        one, scores, notes=["intermediate: qqp, seed 2 ended at chance on its dev set (50.0; chance is 50.0)"]
    )
    assert "chance in the training language: nli: none 1 of 1 run\n" in text_of(report)
    assert "note: intermediate: qqp, seed 2 ended at chance" in text_of(report, width=200)


def test_a_branch_of_many_tasks_has_a_short_name_and_a_legend():
    long, other = "a+b+c+d+e+f", "a+b+c+d+e+f+0.1xg"
    report = build(study(task(), branches=("none", long, other)), [])
    text = text_of(report, width=200)
    assert "\na+4 more+f " in text and "\na+5 more+g " in text
    assert f"a+4 more+f: {long}" in text
    assert {cell.branch for cell in report.missing} == {"none", long, other}
    alike = text_of(build(study(task(), branches=("none", long, "a+c+b+d+e+f")), []), width=200)
    assert f"\n{long} " in alike and "more" not in alike


def test_weights_are_left_out_of_short_names_that_stay_different():
    text = text_of(build(study(task(), branches=("none", "a+0.12xb")), []), width=200)
    assert "\na+b " in text and "\na+b: a+0.12xb\n" in text
    alike = text_of(build(study(task(), branches=("none", "a+0.1xb", "a+0.2xb")), []), width=200)
    assert "\na+0.1xb " in alike and "\na+0.2xb " in alike


def test_each_mixture_in_a_merge_or_chain_is_shortened_on_its_own():
    few, many = "mean(mnli+qqp+ccg, squad1+hellaswag+siqa)", "(a+b+c+d+e > f) > 0.5 vectors(a, b+c+d+e+f)"
    text = text_of(build(study(task(), branches=("none", few, many)), []), width=200)
    assert f"\n{few} " in text and f"\n{few}: " not in text
    assert "\n(a+3 more+e > f) > 0.5 vectors(a, b+3 more+f) " in text


def test_an_average_of_runs_is_not_called_a_single_run():
    scores = [*SCORES, *(replace(s, step="nli-runs-1", seed=None) for s in rows("runs", "en", [80]))]
    for branch, words in (("mnli, runs averaged", "no ±: a single run or an average of runs\n"), ("x", "single run\n")):
        one = study(task(languages=["en"]), branches=("none", branch))
        one = replace(one, cells=tuple(replace(c, step="nli-runs-1") if c.branch == branch else c for c in one.cells))
        assert words in text_of(build(one, scores))


def test_notes_and_names_cannot_break_a_latex_file():
    one = study(replace(task(), note="first\n\\second  line"), branches=("none", "a > b"))
    text = text_of(build(one, [], notes=["p\nq: x ended"]), "latex")
    assert "a $>$ b & " in text and "% note: nli: first \\second line\n% note: p q: x ended\n" in text


def test_markdown_and_latex_cells():
    report = build(study(task("my_nli")), [])
    assert "my\\_nli" in text_of(report, "latex")
    report = build(study(task()), SCORES)
    assert "| mnli | **69.0** ±2.5 (+1.0) |" in text_of(report, "markdown")
    assert r"mnli & \textbf{69.0} $\pm$2.5 (+1.0) \\" in text_of(report, "latex")
    assert "nli: mean over 2 languages, 20-100 examples a language" in text_of(report)


@pytest.mark.parametrize("width", [80, 100])
def test_a_wide_study_is_folded_to_the_terminal(width):
    branches = ("none", *(f"[task-{i}]+masked-text" for i in range(11)))
    tasks = [task(f"task-{i}", ["en", "sw"]) for i in range(9)]
    scores = [s for t in tasks for b in branches for x in ("en", "sw") for s in rows(b, x, [50, 60, 70], t.name)]
    text = text_of(build(study(*tasks, branches=branches), scores), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("[task-10]+masked-text") >= 10
    assert "…" not in text and "\x1b" not in text


def overviews(tasks: int, branches: Sequence[str], widths: Sequence[int] = (60, 80, 200)) -> list[list[str]]:
    """The lines of an overview in windows of these widths."""
    targets = [task(f"task-{i}", ["en", "sw"]) for i in range(tasks)]
    scores = [s for t in targets for b in branches for x in ("en", "sw") for s in rows(b, x, [50, 60, 70], t.name)]
    report = build(study(*targets, branches=tuple(branches)), scores)
    return [render(document(report, ("overview",)), width=width).splitlines() for width in widths]


def test_the_overview_has_the_same_shape_in_every_window():
    """A row for each task, unless there are more branches."""
    for lines in overviews(9, ("none", "b")):
        assert lines[1].split()[1:] == ["none", "b"] and lines[2].split()[:3] == ["task-0", "accuracy", "60.0"]
    for lines in overviews(1, ("none", "b", "c")):
        assert lines[1].split() == ["task-0"] and lines[3].split() == ["none", "60.0", "±10.0"]


def test_a_table_that_is_too_wide_is_transposed_if_that_fits():
    turned, wide = overviews(4, ("none", "b", "c", "d"), (85, 95))
    assert wide[1].split() == ["task-0", "task-1", "task-2", "task-3", "all", "tasks"]
    assert turned[1].split() == ["task", "none", "b", "c", "d"]
    assert turned[2].split()[:3] == ["task-0", "accuracy", "60.0"]


def test_no_number_is_cut_beside_names_that_are_wider_than_the_window():
    """A name is broken after a mark."""
    branches = ("none", "+".join(f"intermediate-{i}" for i in range(4)))
    language = task("task-with-a-name-of-more-than-sixty-columns-which-does-not-fit-in", ["en", "sw"])
    scores = [s for b in branches for x in ("en", "sw") for s in rows(b, x, [50.1, 60.2, 70.4], language.name)]
    for layout in ("first", "overview"):
        text = render(document(build(study(language, branches=branches), scores), (layout,)), width=60)
        assert max(map(len, text.splitlines())) <= 60 and "…" not in text
        assert text.count("60.2 ±10.") >= 2 and re.search(r"\d\+( |$)", text, re.M)


def test_notes_are_broken_at_blanks_and_their_further_lines_are_indented():
    text = text_of(build(study(task()), SCORES), width=60)
    notes = text.rpartition("\n\n")[2].splitlines()
    assert [line for line in notes if line.startswith("  ")] and all(len(line) <= 60 for line in notes)
    whole = text_of(build(study(task()), SCORES), width=1000).rpartition("\n\n")[2]
    assert " ".join(text.rpartition("\n\n")[2].split()) == " ".join(whole.split())


def test_colour_only_when_asked_for():
    report = build(study(task()), SCORES)
    assert "\x1b[1m" in text_of(report, colour=True)
    assert "\x1b" not in text_of(report)


def test_a_report_without_scores_or_tasks_is_no_error():
    assert "mini: mean over languages" in text_of(build(study(task()), []))
    assert text_of(build(study(), [])) == "\n"


def test_the_default_layout_ends_with_the_overview():
    tasks = [task(name, ["en", "sw"]) for name in ("a", "b", "c")]
    one = replace(study(*tasks), encoder="new")
    scores = [s for t in tasks for b in one.branches for x in t.languages for s in rows(b, x, [50, 60, 70], t.name)]
    results = StudyResults(one, scores)
    names = ("default", "brief", "overview", "languages")
    titles = {name: [table.title.split(":")[0] for table in show(results, name).tables] for name in names}
    assert titles == {
        "default": ["a", "b", "c", "mini"],
        "brief": ["a", "mini"],
        "overview": ["mini"],
        "languages": ["a", "b", "c"],
    }
    text = render(show(results, "brief"), width=200)
    assert (
        "new" not in text
        and "none: trained on the target task only; other branches first on the tasks in their names" in text
    )
    assert "\ntask " in text and "\nbranch " not in text
    assert "\nbranch " in render(show(StudyResults(replace(one, tasks=(tasks[0],)), scores), "overview"))


def test_unknown_formats_and_metrics_get_a_suggestion():
    with pytest.raises(UserError, match="did you mean 'markdown'"):
        text_of(build(study(task()), []), "markdwn")
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        build(study(task(metric="acuracy")), [])


def test_scores_of_intermediate_tasks_are_in_no_table_of_targets():
    intermediate = replace(task("qqp", ("en",)), is_intermediate=True)
    scores = [*rows("none", "en", (50, 50, 50)), *rows("mnli", "en", (60, 60, 60)),
              *rows("mnli", "en", (90, 90, 90), task="qqp")]  # fmt: skip
    whole = study(task("nli", ("en",)), intermediate)
    cells = tuple(cell for cell in whole.cells if cell.task == "nli" or cell.branch == "mnli")
    made = build(replace(whole, cells=cells), scores)
    text = text_of(made)
    assert "qqp" not in text and "the intermediate tasks' own dev scores: --layout table15" in text
    assert [x.median for x in made.lines if x.task == "qqp" and x.language == MEAN] == [90]
    assert not [x for x in made.lines if x.task == ALL_TASKS]


def test_each_of_several_encoders_has_its_own_baseline():
    branches = ("A: none", "A: mnli", "B: none", "B: mnli")
    own = {"A: none": "A: none", "A: mnli": "A: none", "B: none": "B: none", "B: mnli": "B: none"}
    several = replace(study(task("nli", ("en",)), branches=branches), baseline=None, baselines=own)
    values = {"A: none": 50, "A: mnli": 60, "B: none": 70, "B: mnli": 71}
    made = build(several, [row for branch, x in values.items() for row in rows(branch, "en", (x, x, x))])
    gains = {x.branch: x.gain for x in made.lines if x.language == MEAN}
    assert gains == {"A: none": None, "A: mnli": 10, "B: none": None, "B: mnli": 1}
    assert "gain over the same encoder's baseline" in text_of(made)
