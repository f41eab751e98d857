"""Errors in a recipe, task file or data file, reported before any training."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import Files
from xstilts.data import conllu
from xstilts.data.find import Found, find
from xstilts.data.readers import read
from xstilts.errors import DataError, MissingData, UserError
from xstilts.formats import Tag
from xstilts.formats.base import Row
from xstilts.tasks.source import File, Source
from xstilts.utils import yaml

NEW = "encoder: {text: play-text, layers: 2"
TASK = "\nown: {format: classify, labels: [a, b], data: {test: t.tsv}"
WRONG = {
    "name of a branch": ("tasks.yaml", "pairs:", "none:", ["tasks.yaml:5: none: a task", "reserved name 'none'"]),
    "name of a group": ("tasks.yaml", "pairs:", "playground:", ["tasks.yaml:5: playground: a task", "reserved name"]),
    "like a list": ("tasks.yaml", "like: xnli", "like: [xnli]", ["tasks.yaml:2: mine.like: needs one name"]),
    "format a mapping": ("tasks.yaml", "like: xnli", "format: {a: b}", ["mine.format: needs one name", "classify"]),
    "text and label": ("tasks.yaml", "like: xnli", "like: xnli\n  label: premise", [": mine", "different columns"]),
    "label twice": ("tasks.yaml", "like: xnli", "like: xnli\n  labels: [a, b, a]", [":3: mine.labels", "'a' is given"]),
    "spelling": ("tasks.yaml", "like: xnli", "like: xnli\n  spellings: {n: netral}", [": mine", "no label 'netral'"]),
    "metric": ("tasks.yaml", "languages: [de]", "metrics: [perplexity]", [":7: pairs.metrics", "known"]),
    "no place": ("tasks.yaml", "train: train-en.tsv", "train: {first_of: []}", [":4: mine.data.train", "at least one"]),
    "places no list": ("tasks.yaml", "train: train-en.tsv", "train: {first_of: {a: b}}", ["mine.data.train", "a list"]),
    "no file": ("tasks.yaml", "train: train-en.tsv", "train: []", [":4: mine.data.train", "names no file"]),
    "empty path": ("tasks.yaml", "train: train-en.tsv", 'train: ""', [":4: mine.data.train", "'' is no path"]),
    "NUL in a path": ("tasks.yaml", "train: train-en.tsv", 'train: "a\\0b"', [":4: mine.data.train", "is no path"]),
    "epochs of a task": ("tasks.yaml", "like: xnli", f"like: xnli\n  epochs: 1{'0' * 12}", [":3: mine.epochs"]),
    "choices no list": ("recipe.yaml", "each: [mine]", "choices: mine", [":7: phases[0].choices", "needs a list"]),
    "name too long": ("recipe.yaml", "name: tiny", "name: " + "a" * 101, [":1: name", "at most 100"]),
    "each": ("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [pairs]", [":7: phases[0].each", "'mine'"]),
    "task without language": ("recipe.yaml", "seeds: [1]", "languages: [en]", [":3: languages", "'pairs' has none"]),
    "name of a phase": ("recipe.yaml", "name: target", "name: '[b] x'", [":7: phases[0].name: '[b] x' is no name of"]),
    "blank at an end": ("recipe.yaml", "name: target", "name: 'x '", [":7: phases[0].name: 'x ' is no name of"]),
    "negative seed": ("recipe.yaml", "seeds: [1]", "seeds: [-1]", [":3: seeds[0]", "greater than or equal to 0"]),
    "large seed": ("recipe.yaml", "seeds: [1]", f"seeds: [{2**63}]", [":3: seeds[0]", "less than"]),
    "steps": ("recipe.yaml", "steps: 2", f"steps: {10**9}", [":5: settings.steps", "less than or equal to"]),
    "budget": ("recipe.yaml", "steps: 2", "budget: update", [":5: settings.budget", "'epochs' or 'updates'"]),
    "budget of epochs": ("recipe.yaml", "steps: 2", "budget: updates, epochs: 2", [":5: settings", "give steps"]),
    "budget of each": ("recipe.yaml", "[mine]}", "[mine], settings: {budget: updates}}", [
        ":7: phases[0].settings.budget", "needs choices",
    ]),
    "small budget": (
        "recipe.yaml", "each: [mine]", "choices: [{chain: [[mine], [mine], [mine]]}], settings: {budget: updates}",
        [":7: phases[0].choices[0]", "3 trainings cannot share 2 updates", "give more steps"],
    ),
    "infinite lr": ("recipe.yaml", "lr: 1e-3", "lr: inf", [":5: settings.lr", "finite"]),
    "warmup between": ("recipe.yaml", "lr: 1e-3", "warmup: 1.5", [":5: settings.warmup", "a share below 1 or a whole"]),
    "warmup of all": ("recipe.yaml", "lr: 1e-3", "warmup: 1.0", [":5: settings.warmup", "a share below 1 or a whole"]),
    "settings of no task": (
        "recipe.yaml", "lr: 1e-3", "tasks: {mne: {lr: 1e-3}}", [":5: settings.tasks.mne", "unknown task", "mine"],
    ),
    "tasks of a task": (
        "recipe.yaml", "lr: 1e-3", "tasks: {mine: {mixing: paper}}", ["settings.tasks.mine.mixing", "of a single task"],
    ),
    "layer": ("recipe.yaml", "lr: 1e-3", "layer: -1", [":5: settings.layer", "greater than or equal to 0"]),
    "weights": ("recipe.yaml", "lr: 1e-3", "weights: first", [":5: settings.weights", "'best' or 'last'"]),
    "warmup nan": ("recipe.yaml", "lr: 1e-3", "warmup: nan", [":5: settings.warmup", "nan"]),
    "infinite weight": ("recipe.yaml", "each: [mine]", "choices: [[{task: mine, weight: inf}]]", ["weight", "finite"]),
    "one run": ("recipe.yaml", "[mine]}", "[mine], average: runs}", [":7: phases[0].average", "one seed"]),
    "runs of one seed": ("recipe.yaml", "[mine]}", "[mine], average: [both], seed: 1}", ["phases[0]", "of one seed"]),
    "another average": ("recipe.yaml", "[mine]}", "[mine], average: [run]}", ["average[0]", "'checkpoints', 'runs'"]),
    "average of choices": ("recipe.yaml", "each: [mine]", "choices: [[mine]], average: checkpoints", ["needs each"]),
    "snapshots": ("recipe.yaml", "[mine]}", "[mine], snapshots: 5}", ["phases[0]: snapshots needs `average: ch"]),
    "no encoder": ("recipe.yaml", "encoder:", "missing: error #", [":1", "needs either encoder or encoders"]),
    "one of several": ("recipe.yaml", "seeds: [1]", "encoders: {a: {encoder: x/y}}", [":3: encoders", "2 items"]),
    "what is kept": ("recipe.yaml", "keep: all", "keep: some", [":9: keep", "'all', 'intermediate' or 'none'"]),
    "each is scored": ("recipe.yaml", "[mine]}", "[mine], scored: true}", ["phases[0]", "scored needs choices"]),
    "encoder and encoders": (
        "recipe.yaml", "seeds: [1]", "encoders: {a: {encoder: x/y}, b: {encoder: x/z}}",
        [":3: encoders: both encoder and encoders are given"],
    ),
    "a seed twice": ("recipe.yaml", "seeds: [1]", "seeds:\n  - 7\n  - 8\n  - 7", [":6: seeds[2]: seeds names 7 twice"]),
    "a phase twice": (
        "recipe.yaml", "phases:", "phases:\n  - {name: target, choices: [[mine]]}",
        [":8: phases[1].name: two phases are called 'target'"],
    ),
    "each before the last": (
        "recipe.yaml", "phases:", "phases:\n  - {name: first, each: [mine]}", [":7: phases[0].each: only the last"]
    ),
    "an empty task file": ("recipe.yaml", "use: [tasks.yaml]", 'use: [tasks.yaml, ""]', [":4: use[1]: '' is no path"]),
    "NUL in a task file": ("recipe.yaml", "use: [tasks.yaml]", 'use: ["a\\0b"]', [":4: use[0]: 'a\\x00b' is no path"]),
    "code of another": ("recipe.yaml", "seeds: [1]", "trust_remote_code: x/y", [":3: trust_remote_code: must be the"]),
    "nothing twice": ("recipe.yaml", "each: [mine]", "choices: [[],\n    []]", [":8: phases[0].choices[1]: ", "twice"]),
    "a choice twice": (
        "recipe.yaml", "each: [mine]", "choices: [[mine, snli],\n    [snli],\n    [{task: mine}, snli]]",
        [":9: phases[0].choices[2]: choices names 'mine+snli' twice"],
    ),
    "a task twice": (
        "recipe.yaml", "each: [mine]", "choices: [[mine,\n    {task: mine, weight: 2}]]",
        [":8: phases[0].choices[0][1]: the mixture names 'mine' twice"],
    ),
    "a weight that vanishes": (
        "recipe.yaml", "each: [mine]", "choices: [[snli, {task: mine, weight: [0, 1e-320]}]]",
        ["weight: a weight must be from 1e-9 to 1e9, got 1e-320"],
    ),
    "head of nothing": ("recipe.yaml", "each: [mine]", "each: [pairs]", ["recipe.yaml:8: evaluate: nothing in the"]),
    "too many branches": (
        "recipe.yaml", "phases:", "phases:" + "".join(f"\n  - {{name: {i}, choices: [[], [snli]]}}" for i in range(17)),
        ["recipe.yaml:6: phases: needs more than 100,000"],
    ),
    "the scale full": ("recipe.yaml", "seeds: [1]", "scales: {full: {}}", [":3: scales.full", "without a scale"]),
    "a scale of no name": ("recipe.yaml", "seeds: [1]", "scales: {'': {}}", [":3: scales.: '' is no name of letters"]),
    "a scale's own name": ("recipe.yaml", "seeds: [1]", "scales: {a/b: {}}", [":3: scales.a/b: 'a/b' is no name of"]),
    "a scale's seeds": ("recipe.yaml", "seeds: [1]", "scales: {mini: {seeds: [x]}}", [":3: scales.mini.seeds[0]: "]),
    "what a scale keeps": ("recipe.yaml", "seeds: [1]", "scales: {mini: {keep: it}}", ["scales.mini.keep", "'all'"]),
    "a scale's task": ("recipe.yaml", "seeds: [1]", "scales: {s: {evaluate: mien}}", ["s.evaluate: ", "mean 'mine'?"]),
    "a task of the full": (
        "recipe.yaml", "seeds: [1]", "scales: {mini: {evaluate: pairs}}",
        [":7: phases[0].each: 'mine' is not evaluated, at the scale 'mini' (name it"],
    ),
    "no scales": ("recipe.yaml", "seeds: [1]", "scales: mini", [":3: scales", "must be a mapping"]),
    "no scale": ("recipe.yaml", "seeds: [1]", "scales: {mini: 3}", [":3: scales.mini", "must be a mapping"]),
    "name of a scale": ("recipe.yaml", "seeds: [1]", "scales: {mini: {name: x}}",
                        [":3: scales.mini.name", "cannot be changed by a scale"]),
    "key of a scale": ("recipe.yaml", "seeds: [1]", "scales: {mini: {seed: [1]}}", ["did you mean 'seeds'?"]),
    "one to merge": ("recipe.yaml", "each: [mine]", "choices: [{merge: [[mine]]}]", ["merge", "2 items, got 1"]),
    "a chain of one": ("recipe.yaml", "each: [mine]", "choices: [{chain: [[mine]]}]", ["chain", "2 items, got 1"]),
    "an unknown link": ("recipe.yaml", "each: [mine]", "choices: [{chain: [[mine], [mnlo]]}]", ["'mnlo'", "mnli"]),
    "a rule of mixing": ("recipe.yaml", "steps: 2", "steps: 2, mixing: sqare", ["'sqare' is none of paper"]),
    "a rule nearly": ("recipe.yaml", "steps: 2", "steps: 2, mixing: papr", ["did you mean 'paper'"]),
    "a temperature": ("recipe.yaml", "steps: 2", "steps: 2, mixing: {temperature: inf}", ["ture: ", "mixing: uniform"]),
    "no temperature": ("recipe.yaml", "steps: 2", "steps: 2, mixing: {temperature: 0}", ["temperature", "0"]),
    "a weight of nothing": ("recipe.yaml", "each: [mine]", "choices: [[{task: mine, weight: [0, 0]}]]", ["weight"]),
    "three weights": (
        "recipe.yaml", "each: [mine]", "choices: [[snli, {task: mine, weight: [1, 2, 3]}]]",
        [":7: phases[0].choices[0][1].weight: ", "a number or two"],
    ),
    "weights of 0 at the end": (
        "recipe.yaml", "each: [mine]", "choices: [[{task: snli, weight: [1, 0]}, {task: mine, weight: [2, 0]}]]",
        [":7: phases[0].choices[0]: ", "at the last update"],
    ),
    "a weight alone": (
        "recipe.yaml", "each: [mine]", "choices: [{chain: [[mine], [{task: mine, weight: [0, 2]}]]}]",
        [":7: phases[0].choices[0].chain[1]: ", "'mine' is the only task"],
    ),
    "chain misspelt": ("recipe.yaml", "each: [mine]", "choices: [{chian: [[mine], [snli]]}]", ["mean 'chain'"]),
    "a setting outside of the settings": (
        "recipe.yaml", "each: [mine]", "each: [mine], epochs: 2",
        [":7: phases[0].epochs: not a field of Phase (write `settings: {epochs: ...}`)"],
    ),
    "beside a chain": (
        "recipe.yaml", "each: [mine]", "choices: [{chain: [[mine], [snli]], how: mean}]",
        [":7: phases[0].choices[0].how: not a field of Chain"],
    ),
    "beside a merge": (
        "recipe.yaml", "each: [mine]", "choices: [{merge: [[mine], [snli]], hwo: mean}]",
        [":7: phases[0].choices[0].hwo: not a field of Merge", "mean 'how'"],
    ),
    "a part for a choice": ("recipe.yaml", "each: [mine]", "choices: [{task: mine}]", ["choices[0]: ", "in brackets"]),
    "merge and chain": (
        "recipe.yaml", "each: [mine]", "choices: [{merge: [[mine], [snli]], chain: [[mine], [snli]]}]", ["not both"]
    ),
    "nothing to merge": ("recipe.yaml", "each: [mine]", "choices: [{merge: [[mine], []]}]", [":7: ", "1 item, got 0"]),
    "merged twice": ("recipe.yaml", "each: [mine]", "choices: [{merge: [[mine], [mine]]}]", ["choices[0]", "twice"]),
    "scale": ("recipe.yaml", "each: [mine]", "choices: [{merge: [[mine], [snli]], scale: 1}]", ["choices[0]", "scale"]),
    "merged name": ("recipe.yaml", "each: [mine]", "choices: [{merge: [[mine], [mien]]}]", ["task 'mien'", "'mine'"]),
    "head of a merge": ("recipe.yaml", "each: [mine]", "choices: [{merge: [[mine], [snli]]}]", ["a head for the task"]),
    "training": ("recipe.yaml", "each: [mine]", "choices: [[found]]", [":7: phases[0]", "trained on the task 'found'"]),
    "nothing to score": ("recipe.yaml", "evaluate: [pairs,", "evaluate: [masked-text,", [":8: evaluate[0]", "neither"]),
}  # fmt: skip


@pytest.fixture
def wrong(study: Files) -> Files:
    study.write("tasks.yaml", (study.folder / "tasks.yaml").read_text() + FOUND)
    return study


FOUND = """\
found:
  like: tatoeba
  languages: [de]
  data: {train: {path: "{lang}.txt", pair: en.txt}}
"""


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_reported_with_file_line_and_field(wrong: Files, name: str) -> None:
    file, old, new, pieces = WRONG[name]
    wrong.edit(file, old, new)
    result = wrong.call("check", wrong.folder / "recipe.yaml")
    assert result.code == 2
    assert [piece for piece in pieces if piece not in result.err] == [], result.err
    assert result.err.count("error: ") == 1, result.err


SHAPES = {
    "no training text": ("{text: untrained}", ":2: encoder.text: 'untrained' has no training data"),
    "layer": ("{text: play-text, layers: 2}", ":2: encoder.layers: the encoder has 2, but the task 'deep' pools"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_new_encoder_that_its_tasks_cannot_use_is_refused(study: Files, name: str) -> None:
    shape, message = SHAPES[name]
    study.write("tasks.yaml", "deep: {like: play-parallel, layer: 2}\nuntrained: {format: mask, data: {dev: a.txt}}\n")
    if name == "layer":
        study.edit("tasks.yaml", "layer: 2", "layer: 3")
    phases = "phases: [{name: a, choices: [[play-nli]]}]"
    study.write("recipe.yaml", f"name: a\nencoder: {shape}\nuse: [tasks.yaml]\n{phases}\nevaluate: [deep]\n")
    result = study.call("check", study.folder / "recipe.yaml")
    assert result.code == 2 and message in result.err and result.err.count("error: ") == 1, result.err


def test_new_labels_drop_inherited_spellings(study: Files) -> None:
    study.edit("tasks.yaml", "like: xnli", "like: xnli\n  labels: [yes, no]")
    result = study.call("plan", study.folder / "recipe.yaml")  # the files have the labels of XNLI
    assert "target: mine" in result.out and "unknown label 'entailment' (known: no, yes)" in result.err


def test_a_yaml_file_too_deep_too_large_or_unreadable_is_refused(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    link = tmp_path / "link.yaml"
    link.symlink_to("nowhere.yaml")
    for content, message in (
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deep"),
        (bomb, "more than 100000 values"),
        ('a: "\\ud800"', "half a char"),
    ):
        path = tmp_path / "a.yaml"
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            yaml.load(path)
    for path, message in (
        (tmp_path, "Is a directory"),
        (link, "is a link to a file that is not there"),
        (tmp_path / "a\0.yaml", "is no path"),
        (tmp_path / ("a" * 300 + ".yaml"), "File name too long"),
    ):
        with pytest.raises(UserError, match=message):
            yaml.load(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("playground:nil/test", "no 'nil' .*'nli'"),
        ("playground:nli/tset", "no split 'tset' .*'test'"),
        ("playground:nli/train", "no data for 'qaa'"),
        ("a" * 300, "File name too long"),
        ("folder", r"folder \(a folder\)"),
        ("link", r"link \(a broken link\)"),
        (".", "no data for 'qaa'"),
    ],
)
def test_missing_data_are_reported(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(MissingData, match=message):
        find(Source.model_validate(path), "qaa", [tmp_path])


def _rows(path: Path, content: str, fields: tuple[str, ...], inputs: tuple[str, ...]) -> list[Row]:
    path.write_text(content, encoding="utf-8")
    return list(read(Found(File(path=path.name), (str(path),)), "de", fields=fields, inputs=inputs))


CELLS = {
    "list": '{"text": ["a"]}',
    "mapping": '{"text": {"a": 1}}',
    "true": '{"text": true}',
    "NaN": '{"text": NaN}',
    "surrogate": '{"text": "a\\ud83d"}',
    "deep": "[" * 100_000,
    "digits": '{"text": ' + "1" * 5000 + "}",
}


@pytest.mark.parametrize("name", CELLS)
def test_values_that_are_no_text_are_refused_with_their_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:2: (text must be|text contains|is nested|has a number)"):
        _rows(tmp_path / "a.jsonl", f'{{"text": 5}}\n{CELLS[name]}\n', ("text", "label"), ("text",))


def test_a_surrogate_in_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: words contains half a character"):
        _rows(tmp_path / "a.jsonl", '{"words": ["a", "\\udc00"]}', ("words", "tags"), ("words",))


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_header_with_a_column_twice_is_refused(tmp_path: Path, ending: str) -> None:
    content = "text,label,text\na,b,c\n".replace(",", "," if ending == "csv" else "\t")
    with pytest.raises(DataError, match=rf"a\.{ending}:1: the header names the column 'text' twice"):
        _rows(tmp_path / f"a.{ending}", content, ("text", "label"), ("text",))


def test_a_cell_of_csv_may_be_long(tmp_path: Path) -> None:
    (row,) = _rows(tmp_path / "a.csv", "text\n" + "a" * 200_000 + "\n", ("text",), ("text",))
    assert len(row.values["text"]) == 200_000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"words": ["a", 5], "tags": ["X", "Y"]}, "words and tags must be text, not 5"),
        ({"words": ["a", "b"], "tags": ["X", None]}, "words and tags must be text, not None"),
        ({"words": ["a", " "]}, "word 2 of the sentence is empty"),
    ],
)
def test_words_and_tags_are_texts(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^a:3: {message}"):
        Tag(labels=("X", "Y")).read(Row(json.loads(json.dumps(values)), "a", 3))


@pytest.mark.parametrize("span", ["2-1", "1-999999999", "1-" + "9" * 5000])
def test_an_invalid_range_is_refused(span: str) -> None:
    rest = "\t".join(["_"] * 4 + ["0"] + ["_"] * 3)
    lines = [(1, f"{span}\tab\t{rest}"), (2, f"1\ta\t{rest}"), (3, f"2\tb\t{rest}")]
    with pytest.raises(DataError, match=r"^a:1: "):
        list(conllu.sentences(lines, "de", "a"))


def test_a_scale_takes_the_place_of_what_it_names_and_has_a_name_of_its_own(study: Files) -> None:
    small = "scales:\n  mini:\n    seeds: [4, 5]\n    settings: {steps: 3}"
    study.edit("recipe.yaml", "seeds: [1]", f"seeds: [1]\n{small}")
    result = json.loads(study.call("plan", study.folder / "recipe.yaml", "--scale", "mini", "--json").out)
    assert result["recipe"] == "tiny-mini"
    assert {step["seed"] for step in result["steps"] if "training" in step} == {4, 5}
    assert {step["training"]["steps"] for step in result["steps"] if "training" in step} == {3}
    assert json.loads(study.call("plan", study.folder / "recipe.yaml", "--json").out)["recipe"] == "tiny"
    wrong = study.call("plan", study.folder / "recipe.yaml", "--scale", "mina")
    assert wrong.code == 2 and "has no scale 'mina'" in wrong.err and "did you mean 'mini'?" in wrong.err
    study.edit("recipe.yaml", "steps: 3", "stepz: 3")
    wrong = study.call("check", study.folder / "recipe.yaml", "--scale", "mini")
    assert wrong.code == 2 and "recipe.yaml:7: scales.mini.settings.stepz: " in wrong.err, wrong.err
