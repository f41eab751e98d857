"""The built-in tasks: names, sizes, training defaults, sources, and the real data they find and read."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import xstilts.tasks
from conftest import CliResult
from xstilts.data.availability import describe
from xstilts.data.examples import locate
from xstilts.errors import UserError
from xstilts.languages import XTREME, XTREME_R, codes
from xstilts.study import plan
from xstilts.study.load import read
from xstilts.study.recipe import Recipe
from xstilts.tasks import GROUPS, TASKS, WITH_MORE_LANGUAGES
from xstilts.tasks.counts import COUNTS, official_count
from xstilts.tasks.task import Split, Task
from xstilts.tasks.user_tasks import from_yaml
from xstilts.training.settings import TrainSpec

TASKS_FOLDER = Path(xstilts.tasks.__file__).parent
NAMES = codes("""
    anli-plus mnli snli anli qqp xnli pawsx hellaswag cosmosqa commonsenseqa siqa copa xcopa udpos panx ccg squad1
    squad2 xquad mlqa tydiqa bucc2018 tatoeba lareqa mewslix masked-text
""")


def made(tasks: dict[str, Task] | None = None, **fields: Any) -> plan.Plan:
    recipe = {"name": "r", "encoder": "some/encoder", "seeds": [1], **fields}
    return plan.plan(Recipe.model_validate(recipe), TASKS | (tasks or {}))


def trainings(laid_out: plan.Plan) -> list[TrainSpec]:
    return [step.training for step in laid_out.steps.values() if step.training]


def own(folder: Path, text: str) -> dict[str, Task]:
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return from_yaml(folder / "mine.yaml", TASKS)


def entries() -> Iterator[tuple[str, int]]:
    """The file and the number of lines of every task that is spelled out in the catalogue."""
    for path in sorted(TASKS_FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Task":
                assert node.end_lineno is not None
                yield f"{path.name}:{node.lineno}", node.end_lineno - node.lineno + 1


def test_the_catalogue_has_the_tasks_of_the_paper_and_of_both_benchmarks() -> None:
    assert [name for name in TASKS if not name.startswith("play-")] == list(NAMES)


def test_an_entry_has_eight_lines_at_most() -> None:
    found = list(entries())
    assert len(found) == len(TASKS)
    assert [where for where, lines in found if lines > 8] == []


def test_every_entry_says_where_it_comes_from_and_what_to_know() -> None:
    for name in NAMES:
        task = TASKS[name]
        assert task.note and (name == "masked-text" or (task.license and task.url.startswith("http"))), name
        assert task.note[-1] != "." and len(task.note) < 240, name


def test_the_groups_are_those_of_the_paper_and_the_benchmarks() -> None:
    assert {group: len(names) for group, names in GROUPS.items() if group != "playground"} == {
        "intermediate": 9, "xtreme": 9, "xtreme-r": 10,
    }  # fmt: skip
    assert {name for names in GROUPS.values() for name in names} <= TASKS.keys() and set(
        WITH_MORE_LANGUAGES
    ) <= GROUPS.keys()


@pytest.mark.parametrize(
    ("name", "batch", "epochs"),
    [
        ("anli-plus", 24, 2), ("mnli", 24, 2), ("ccg", 24, 15), ("commonsenseqa", 4, 10), ("cosmosqa", 4, 15),
        ("hellaswag", 24, 7), ("qqp", 24, 3), ("squad1", 8, 3), ("squad2", 8, 3),
        ("xnli", 4, 2), ("pawsx", 32, 5), ("xquad", 16, 2), ("mlqa", 16, 2), ("tydiqa", 16, 2), ("udpos", 32, 10),
        ("panx", 32, 10),
    ],
)  # fmt: skip
def test_batch_and_epochs_are_those_of_tables_4_and_5(name: str, batch: int, epochs: int) -> None:
    assert (TASKS[name].batch, TASKS[name].epochs) == (batch, epochs)


def test_lengths_are_those_of_the_published_scripts() -> None:
    for name in NAMES:
        kind = TASKS[name].format.name
        assert TASKS[name].max_length == {"span": 384, "retrieve": 512}.get(kind, 256), name


def test_every_source_separates_languages_and_lists_each_file_once() -> None:
    for name in NAMES:
        for split, source in TASKS[name].data.items():
            paths = [
                tuple((file.path, file.columns and str(file.columns)) for file in layout) for layout in source.layouts
            ]
            assert len(set(paths)) == len(paths), (name, split)


# --- who trains on what -----------------------------------------------------------------------------------------------


def test_both_question_tasks_that_train_on_squad_share_one_training() -> None:
    phases = [{"name": "target", "each": ["xquad", "mlqa"]}]
    laid_out = made(phases=phases, evaluate=["xquad", "mlqa"])
    assert (laid_out.trainings_before_folding, laid_out.trainings) == (2, 1)
    assert laid_out.evaluations == 11 + 7
    assert TASKS["xquad"].stop_metric == TASKS["mlqa"].stop_metric == "f1_em"
    assert TASKS["squad2"].stop_metric == "squad2_f1_em" and TASKS["qqp"].stop_metric == "accuracy_f1"


def test_target_tasks_share_the_training_files_of_their_english_tasks() -> None:
    train = {name: TASKS[name].data["train"] for name in NAMES if TASKS[name].trainable}
    assert train["xnli"] == train["mnli"] and train["xquad"] == train["mlqa"] == train["squad1"]
    assert train["xcopa"] == train["copa"]
    assert TASKS["xquad"].data["stop"] == TASKS["squad1"].data["dev"]
    assert TASKS["xcopa"].data["stop"] == TASKS["copa"].data["dev"]


def test_the_whole_benchmark_is_planned_by_two_names() -> None:
    phases = [{"name": "middle", "choices": [[], ["mnli"]]}, {"name": "target", "each": ["xtreme"]}]
    laid_out = made(phases=phases, evaluate=["xtreme"])
    assert laid_out.trainings == 1 + 2 * 6  # seven tasks have training data, two of them train alike
    scored = {step.scoring.task: len(step.scoring.languages) for step in laid_out.steps.values() if step.scoring}
    assert scored == {"xnli": 15, "pawsx": 7, "udpos": 33, "panx": 40, "xquad": 11, "mlqa": 7, "tydiqa": 9,
                      "bucc2018": 4, "tatoeba": 36}  # fmt: skip


def test_the_nine_intermediate_tasks_can_be_mixed() -> None:
    laid_out = made(phases=[{"name": "all", "choices": [list(GROUPS["intermediate"])]}], evaluate=["tatoeba"])
    (training,) = trainings(laid_out)
    assert [part.batch for part in training.parts] == [24, 24, 24, 8, 8, 24, 24, 4, 4]
    assert {part.epochs for part in training.parts} == {3}


def test_a_joined_training_set_stops_by_every_part(tmp_path: Path) -> None:
    task = TASKS["anli-plus"]
    assert {len(layout) for layout in task.data["train"].layouts} == {5}
    assert {len(layout) for layout in task.data["dev"].layouts} == {5}
    for folder, name in (("snli", "snli_1.0_dev"), ("multinli_1.0", "multinli_1.0_dev_matched")):
        row = {"sentence1": "a", "sentence2": "b", "gold_label": "neutral"}
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.jsonl").write_text(f"{json.dumps(row)}\n" * 3, encoding="utf-8")
    for number in (1, 2, 3):
        (tmp_path / f"anli/R{number}").mkdir(parents=True)
        row = {"context": "a", "hypothesis": "b", "label": "e"}
        (tmp_path / f"anli/R{number}/dev.jsonl").write_text(f"{json.dumps(row)}\n" * 3, encoding="utf-8")
    found = locate(task, task.data["dev"], ("en",), tmp_path, 2, each=True).read()
    assert [example.label for example in found] == ["neutral"] * 4 + ["entailment"] * 6


@pytest.mark.parametrize("train", ["pawsx/dev-en.tsv", "pawsx/dev-en.tsv.gz"])
def test_a_dev_set_used_for_training_is_neither_scored_nor_used_to_stop(tmp_path: Path, train: str) -> None:
    task = own(tmp_path, f'pawsx-mini: {{like: pawsx, data: {{train: "{train}"}}}}')["pawsx-mini"]
    assert task.scored == ("test",) and task.stop_source() is None
    assert TASKS["pawsx"].scored == ("dev", "test")


@pytest.mark.parametrize(
    ("train", "overlaps"),
    [
        ("./dev-en.tsv", True),
        ("FOLDER/dev-en.tsv", True),
        ("../FOLDERNAME/dev-en.tsv", True),
        ("d*.tsv", True),
        ("d*/dev-en.tsv", False),
        ({"path": "dev-en.tsv", "part": "1/2"}, True),
        ({"path": "dev-en.tsv", "part": "2/3"}, True),
        ({"path": "dev-en.tsv", "part": "3/3"}, False),
    ],
)
def test_a_dev_set_used_for_training_is_recognised_however_its_path_is_spelled(
    tmp_path: Path, train: str | dict[str, str], overlaps: bool
) -> None:
    spelled = json.dumps(train).replace("FOLDERNAME", tmp_path.name).replace("FOLDER", str(tmp_path))
    dev = "{path: 'dev-{lang}.tsv', part: 3/5}"
    task = own(tmp_path, f"mine: {{like: pawsx, data: {{train: {spelled}, dev: {dev}}}}}")["mine"]
    assert ("dev" in task.scored) != overlaps


# --- the languages that XTREME-R adds ---------------------------------------------------------------------------------


def scored(**fields: Any) -> dict[str, set[str]]:
    phases = [{"name": "target", "each": ["udpos", "xquad"]}]
    laid_out = made(**{"phases": phases, **fields})
    return {step.scoring.task: set(step.scoring.languages) for step in laid_out.steps.values() if step.scoring}


def test_extra_languages_are_scored_only_for_the_group_or_by_name() -> None:
    added = {"lt", "pl", "ro", "uk", "wo"}
    assert scored(evaluate=["udpos"])["udpos"].isdisjoint(added)
    assert scored(evaluate=["xtreme"], phases=[{"name": "target", "each": "xtreme"}])["udpos"].isdisjoint(added)
    assert scored(evaluate=["udpos"], languages=["en", "lt"]) == {"udpos": {"en", "lt"}}
    wide = scored(evaluate=["xtreme-r"], phases=[{"name": "target", "each": "xtreme-r"}])
    assert {task: len(languages) for task, languages in wide.items()} == {
        "xnli": 15, "xcopa": 11, "udpos": 38, "panx": 48, "xquad": 12, "mlqa": 7, "tydiqa": 9, "tatoeba": 41,
        "mewslix": 11, "lareqa": 11,
    }  # fmt: skip
    assert set().union(*wide.values()) == set(XTREME_R)
    assert set().union(*(TASKS[name].languages for name in GROUPS["xtreme"])) == set(XTREME)


def test_a_task_of_ones_own_has_its_own_languages_only(tmp_path: Path) -> None:
    tasks = own(tmp_path, "baltic: {like: udpos, languages: [lt]}\nsame: {like: udpos, batch: 8}\n")
    assert (tasks["baltic"].languages, tasks["baltic"].more_languages) == (("lt",), ())
    assert tasks["same"].more_languages == TASKS["udpos"].more_languages
    with pytest.raises(UserError, match="languages and more_languages both have 'en'"):
        own(tmp_path, "twice: {like: udpos, more_languages: [en]}")


def test_tasks_lists_the_files_of_extra_languages(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "udpos").mkdir()
    (tmp_path / "udpos/test-lt.tsv").write_text("namas\tNOUN\n", encoding="utf-8")
    result = xstilts("show", "udpos", "lt", 0, "--split", "test", "--data", tmp_path)
    assert result.code == 0 and "namas" in result.out
    (row,) = (row for row in describe(tmp_path) if row["task"] == "udpos")
    assert row["found"]["test"] == ["lt"] and "lt" in row["more_languages"]
    assert "has no data in 'gu' (known: " in xstilts("show", "udpos", "gu", 0, "--data", tmp_path).err


def test_a_recipe_may_name_extra_languages(tmp_path: Path) -> None:
    recipe = "name: r\nencoder: e\nphases: [{name: target, each: [udpos]}]\nevaluate: [udpos]\nlanguages: [%s]\n"
    (tmp_path / "r.yaml").write_text(recipe % "lt", encoding="utf-8")
    assert read(str(tmp_path / "r.yaml"))[0].languages == ("lt",)
    (tmp_path / "r.yaml").write_text(recipe % "my", encoding="utf-8")
    with pytest.raises(UserError, match="no evaluated task has the language 'my'"):
        read(str(tmp_path / "r.yaml"))


# --- numbers and words about them -------------------------------------------------------------------------------------


def test_official_counts_name_existing_tasks_splits_and_languages() -> None:
    for name, splits in COUNTS.items():
        for split, number in splits.items():
            assert split in TASKS[name].data, (name, split)
            if isinstance(number, dict):
                assert set(number) <= set(TASKS[name].all_languages), (name, split)
    assert COUNTS.keys() == set(NAMES) - {"masked-text"}


def test_the_counts_are_those_of_the_papers_first_table() -> None:
    train = codes(
        "anli-plus mnli qqp squad2 squad1 hellaswag ccg commonsenseqa xnli pawsx udpos panx xquad mlqa tydiqa"
    )
    assert [official_count(name, "train", "en") for name in train] == [
        1_104_934, 392_702, 363_846, 130_319, 87_599, 39_905, 38_015, 9_741, 392_702, 49_401, 21_253, 20_000, 87_599,
        87_599, 3_696,
    ]  # fmt: skip
    parts = [official_count(name, "train", "en") or 0 for name in ("snli", "mnli", "anli")]
    assert sum(parts) == official_count("anli-plus", "train", "en")
    assert sum(official_count(name, "dev", "en") or 0 for name in ("snli", "mnli", "anli")) == official_count(
        "anli-plus", "dev", "en"
    )
    mlqa = [official_count("mlqa", "test", code) for code in TASKS["mlqa"].languages]
    assert (min(mlqa), max(mlqa)) == (4_517, 11_590)  # type: ignore[type-var]


def test_the_documentation_lists_every_task() -> None:
    page = (Path(__file__).parents[1] / "docs/tasks.md").read_text(encoding="utf-8")
    first = page.partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", first, flags=re.MULTILINE))
    assert list(rows) == list(NAMES)
    for name, row in rows.items():
        cells = [cell.strip() for cell in row.split(" | ")]
        task = TASKS[name]
        more = f" + {len(task.more_languages)}" if task.more_languages else ""
        trained = f"{task.batch} × {task.epochs}" if task.trainable and name != "masked-text" else "–"
        splits = ", ".join(split for split in ("train", "dev", "test") if split in task.data)
        assert cells[:5] == [task.format.name, f"{len(task.languages)}{more}", splits, task.metric, trained], name
    groups = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", page.partition("## Groups")[2], flags=re.MULTILINE))
    assert groups.keys() == GROUPS.keys()
    for group in ("intermediate", "xtreme", "xtreme-r"):
        assert tuple(groups[group].split(", in ")[0].split(", ")) == GROUPS[group]


# --- the real thing ---------------------------------------------------------------------------------------------------

SHORT = {
    ("udpos", "test"): {"ar": 1000, "de": 3899, "fr": 4997, "hi": 1000, "ru": 2486},
    ("anli", "dev"): {"en": 3198},
    ("mnli", "dev"): {"en": 19_647},
    ("qqp", "dev"): {"en": 10_000},
}
"""Sizes of the splits that are known to be incomplete there, or others than the official ones."""


def there(shared: Path, task: Task, limit: int | None = None) -> Iterator[tuple[Split, str, Any]]:
    for split, source in task.data.items():
        for code in task.train_languages if split in ("train", "stop") else task.all_languages:
            try:
                yield split, code, locate(task, source, (code,), shared / "data", limit, train=split == "train")
            except UserError:
                continue


FOUND = {
    "mnli": 1, "anli": 1, "snli": 2, "qqp": 1, "xnli": 28, "pawsx": 13, "hellaswag": 1, "commonsenseqa": 2,
    "cosmosqa": 1, "siqa": 2, "copa": 3, "xcopa": 20, "udpos": 59, "panx": 43, "xquad": 11, "mlqa": 6, "tydiqa": 9,
    "bucc2018": 1, "tatoeba": 34, "lareqa": 11, "masked-text": 40,
}  # fmt: skip
"""How many pairs of split and language the real data folder has of each task."""


@pytest.mark.real
def test_the_real_data_are_found(shared: Path) -> None:
    found = {name: sum(1 for _ in there(shared, TASKS[name])) for name in NAMES}
    assert {name: number for name, number in found.items() if number} == FOUND


@pytest.mark.real
@pytest.mark.parametrize("name", FOUND)
def test_the_first_real_rows_are_examples(shared: Path, name: str) -> None:
    task = TASKS[name]
    for split, code, rows in there(shared, task, 20):
        found = rows.read()
        asking = [example for example in found if task.format.is_query(example)]
        assert len(asking) == 20, (split, code)
        assert all(task.format.reference(example, i) is not None for i, example in enumerate(asking)), (split, code)


@pytest.mark.real
@pytest.mark.parametrize("name", [name for name in FOUND if name not in ("masked-text", "panx", "bucc2018", "lareqa")])
def test_the_real_files_have_as_many_examples_as_they_should(shared: Path, name: str) -> None:
    task = TASKS[name]
    for split, code, rows in there(shared, task):
        count = official_count(name, split, code)
        if count is not None:
            expected = SHORT.get((name, split), {}).get(code, count)
            assert sum(map(task.format.is_query, rows.read())) == expected, (split, code)
