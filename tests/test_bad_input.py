"""A user's mistake is one error with its file and line, exit code 2, and no output."""

import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import load_file, save_file

from conftest import CliResult, Files
from xstilts import __version__
from xstilts.errors import UserError
from xstilts.model.encoder import load

WRONG = {
    "misspelt field": ("recipe.yaml", "steps: 2", "stpes: 2", ["recipe.yaml:5: settings.stpes", "mean 'steps'?"]),
    "task field": ("tasks.yaml", "languages: [de]", "langages: [de]", ["tasks.yaml:7: pairs.langages", "'languages'"]),
    "task": ("recipe.yaml", "each: [mine]", "each: [minee]", [":7: phases[0].each", "unknown task 'minee'", "'mine'"]),
    "like": ("tasks.yaml", "like: xnli", "like: xlni", ["tasks.yaml:2: mine.like", "unknown task 'xlni'", "'xnli'"]),
    "format": ("tasks.yaml", "like: xnli", "format: clasify", ["tasks.yaml:2: mine.format", "'classify'"]),
    "language": ("tasks.yaml", "[en, de]", "[en, german]", ["tasks.yaml:3: mine.languages", "'german': write de"]),
    "metric": ("tasks.yaml", "languages: [de]", "metrics: [acuracy]", ["tasks.yaml:7: pairs.metrics", "'accuracy'"]),
    "no such part": ("tasks.yaml", "pair: en.txt", "pair: en.txt, part: 3/2", ["tasks.yaml:8", "there is no part 3/2"]),
    "one file": ("tasks.yaml", "test-{lang}", "test-de", [":1: mine: data.test is the same for all 2", "{lang}"]),
    "scored language": ("recipe.yaml", "seeds: [1]", "languages: [ed]", ["has the language 'ed'", "known: de, en"]),
    "key twice": ("recipe.yaml", "seeds: [1]", "name: twice", ["recipe.yaml:3", "'name' is given twice", "line 1"]),
    "type": ("recipe.yaml", "batch: 4", "batch: four", [":5: settings.batch", "needs a whole number, got 'four'"]),
    "too small": ("recipe.yaml", "batch: 4", "batch: 0", [":5: settings.batch", "greater than or equal to 1, got '0'"]),
    "epochs and steps": ("recipe.yaml", "batch: 4", "epochs: 4", [":5: settings", "epochs or steps, not both"]),
    "no phases": ("recipe.yaml", "  - {name: target, each: [mine]}", "  []", [":6: phases", "at least 1 item, got 0"]),
    "task file": (
        "recipe.yaml", "[tasks.yaml]", "[task.yaml]",
        ["recipe.yaml:4: use[0]: ", "task.yaml: no such file", "mean 'tasks.yaml'?"]
    ),
    "a recipe as task file": ("recipe.yaml", "[tasks.yaml]", "[recipe.yaml]", ["recipe.yaml: is a recipe, not a task"]),
    "no head": ("recipe.yaml", "each: [mine]", "each: [pairs]", ["nothing in the recipe trains a head for", "'mine'"]),
    "no training": ("recipe.yaml", "each: [mine]", "choices: [[pairs]]", ["'pairs' has no training data"]),
    "encoder": ("recipe.yaml", "encoder: ", "encoder: /nowhere", ["/nowhere", "no such folder"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_in_the_recipe(study: Files, name: str) -> None:
    file, old, new, pieces = WRONG[name]
    study.edit(file, old, new)
    study.refused(*pieces)


def test_an_empty_recipe(study: Files) -> None:
    study.write("recipe.yaml", "# nothing yet\n")
    study.refused("recipe.yaml: is empty")


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_a_task_file_is_no_recipe(study: Files, command: str) -> None:
    result = study.call(command, study.folder / "tasks.yaml")
    assert (result.code, result.out) == (2, "")
    assert "tasks.yaml: is a task file, not a recipe: it has the task 'mine' (name it in a recipe: `use:" in result.err


def test_the_version_is_printed(study: Files) -> None:
    assert study.call("--version").out == f"xstilts {__version__}\n"


def test_a_misspelt_shipped_recipe(study: Files) -> None:
    result = study.call("run", "quickstrat", "--out", study.out)
    assert (result.code, result.err) == (2, "error: no recipe 'quickstrat' (did you mean 'quickstart'?)\n")


def test_all_mistakes_of_a_recipe_at_once(study: Files) -> None:
    study.edit("recipe.yaml", "steps: 2", "stpes: 2")
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [one]")
    study.edit("tasks.yaml", "like: tatoeba", "like: tatobea")
    study.refused("recipe.yaml:3", "recipe.yaml:5", "tasks.yaml:6", "'tatoeba'", lines=3)


def test_all_mistakes_of_data_and_encoder_at_once(study: Files) -> None:
    study.edit("recipe.yaml", "encoder: ", "encoder: /nowhere")
    study.edit("train-en.tsv", "entailment", "entails")
    study.edit("dev-de.tsv", "\tneutral", "")
    study.refused("/nowhere", "train-en.tsv:1: unknown label 'entails'", "dev-de.tsv:2: has 2 columns", lines=3)


def test_a_missing_file_names_every_path_tried(study: Files) -> None:
    (study.folder / "train-en.tsv").rename(study.folder / "train-eng.tsv")
    result = study.run("--data", study.folder / "data")
    assert (result.code, result.err.count("\n")) == (2, 1)
    for place in ("train-en.tsv", "data/train-en.tsv", "train-eng.tsv"):
        assert f"{study.folder}/{place}" in result.err
    assert not study.out.exists()


def test_a_missing_language_is_skipped_only_if_the_recipe_says_so(study: Files) -> None:
    study.edit("tasks.yaml", "[en, de]", "[en, de, sw]")
    result = study.run()
    assert (
        result.code == 2
        and "no data for 'sw'" in result.err
        and "dev-sw.tsv" in result.err
        and "test-sw.tsv" in result.err
    )
    study.edit("recipe.yaml", "seeds: [1]", "missing: skip\nseeds: [1]")
    result = study.run()
    assert result.code == 0 and "left out because files are missing: mine en test, mine sw\n" in result.err


ROWS = {
    "too few columns": (b"one\ttwo\tneutral\nonly one\n", ":2: has 1 column, the first row has 3"),
    "unknown label": (b"a\tb\tneutral\nc\td\tnuetral\n", ":2: unknown label 'nuetral' (did you mean 'neutral'?)"),
    "broken UTF-8": (b"one\ttwo\tneutral\none\xff\ttwo\tneutral\n", ":2: is not UTF-8 at byte 19"),
    "empty sentence": (b"one\ttwo\tneutral\none\t \tneutral\n", ":2: empty hypothesis"),
    "empty file": (b"", ": is empty"),
    "no labels": (b"one\ttwo\nthree\tfour\n", ": this split has no labels"),
    "only dropped labels": (b"one\ttwo\t-\n", ": no usable example"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_mistake_in_the_training_data(study: Files, name: str) -> None:
    content, message = ROWS[name]
    path = study.write("train-en.tsv", content)
    study.refused(f"{path}{message}")


def test_a_scored_split_may_lack_labels(study: Files) -> None:
    study.write("test-de.tsv", "eins\tzwei\n")
    result = study.run()
    assert result.code == 0 and "without labels, so predicted and not scored: mine: test of de\n" in result.err


@pytest.mark.parametrize("skip", ["", "missing: skip\n"])
@pytest.mark.parametrize("split", ["train-en", "dev-{lang}", "test-{lang}"])
def test_files_of_an_own_task_that_are_nowhere_are_an_error(study: Files, split: str, skip: str) -> None:
    """`missing: skip` skips a language, not a path that the user's own task file misspells."""
    study.edit("recipe.yaml", "seeds: [1]", f"{skip}seeds: [1]")
    study.edit("tasks.yaml", f"{split}.tsv", f"daten/{split}.tsv")
    for command in ("check", "run"):
        result = study.call(command, study.folder / "recipe.yaml", "--data", study.folder)
        assert result.code == 2
        assert f"{study.folder}/daten/{split.format(lang='en')}.tsv" in result.err
    assert not study.out.exists()


def test_a_warning_about_a_dev_file_appears_once(study: Files) -> None:
    study.edit("tasks.yaml", 'dev: "dev-{lang}.tsv"', 'dev: {path: "dev-{lang}.tsv", broken: replace}')
    study.write("dev-en.tsv", b"one\xff\ttwo\tneutral\n")
    result = study.run()
    assert result.code == 0 and result.err.count("dev-en.tsv:1: is not UTF-8") == 1


def test_parallel_files_of_different_lengths_are_refused(study: Files) -> None:
    study.write("en.txt", "just one\n")
    study.refused("de.txt: has 3 lines, but its translation", "en.txt has 1")


@pytest.fixture
def broken(study: Files, encoder_folder: Path) -> Path:
    """A copy of the encoder to be broken; the study starts from it."""
    copy = study.folder / "broken"
    copy.mkdir()
    for file in encoder_folder.iterdir():
        study.write(f"broken/{file.name}", file.read_bytes())
    study.edit("recipe.yaml", str(encoder_folder), str(copy))
    return copy


def test_an_encoder_without_weights(study: Files, broken: Path) -> None:
    (broken / "model.safetensors").unlink()
    study.refused(f"{broken}: has no weights (*.safetensors)")


def test_pickled_weights_are_not_read(study: Files, broken: Path) -> None:
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    study.refused(f"{broken}: has only pickled weights (.bin)", "save_pretrained")


@pytest.mark.parametrize(
    ("renamed", "words"),
    [
        ("model.fp16.safetensors", ["has model.fp16.safetensors, but no model.safetensors", "rename the file"]),
        (
            "model-00001-of-00001.safetensors",
            ["but no model.safetensors.index.json", "copy model.safetensors.index.js"],
        ),
        ("model-00001-of-00003.safetensors", ["lacks weights (only 1 of its 3 parts)"]),
    ],
)
def test_weights_under_another_name(study: Files, broken: Path, renamed: str, words: list[str]) -> None:
    (broken / "model.safetensors").rename(broken / renamed)
    study.refused(f"{broken}: ", *words)


def test_an_adapter_is_no_encoder(study: Files, broken: Path) -> None:
    (broken / "model.safetensors").rename(broken / "adapter_model.safetensors")
    study.write("broken/adapter_config.json", '{"peft_type": "LORA"}')
    study.refused(f"{broken}: is an adapter (PEFT), not a whole encoder", "merge_and_unload()")


def test_a_folder_of_sentence_transformers_names_the_encoder_in_it(study: Files, broken: Path) -> None:
    for part in ("0_Transformer", "1_Pooling"):
        (broken / part).mkdir()
        study.write(f"broken/{part}/config.json", (broken / "config.json").read_bytes())
    (broken / "config.json").unlink()
    study.write("broken/modules.json", "[]")
    study.refused(f"{broken}: is a folder of sentence-transformers", f"give {broken / '0_Transformer'}")


def test_quantised_weights_are_named_by_their_method(study: Files, broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text(encoding="utf-8"))
    quantised = {**config, "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    study.write("broken/config.json", json.dumps(quantised))
    study.refused(f"{broken}: has quantised weights (bitsandbytes)", "before quantisation")


def test_an_encoder_without_a_padding_token_in_its_config_has_the_tokenizers(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text(encoding="utf-8"))
    (broken / "config.json").write_text(json.dumps({**config, "pad_token_id": None}), encoding="utf-8")
    assert load(str(broken)).config.pad_token_id == config["pad_token_id"] is not None


def test_an_encoder_without_any_padding_token_says_what_it_needs(broken: Path) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        words = json.loads((broken / name).read_text(encoding="utf-8"))
        left = {key: value for key, value in words.items() if key not in ("pad_token_id", "pad_token")}
        (broken / name).write_text(json.dumps({**left, "pad_token_id": None}), encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot be run on text: .*name a `pad_token` in tokenizer_config.json"):
        load(str(broken))


@pytest.mark.parametrize("pickled", [True, False])
def test_a_hub_encoder_without_safetensors_says_so_as_a_folder_does(
    broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pickled: bool
) -> None:
    repo = tmp_path / "hub/models--some--encoder"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text("a" * 40)
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    shutil.copytree(broken, repo / "snapshots" / ("a" * 40))
    if not pickled:
        (repo / "snapshots" / ("a" * 40) / "pytorch_model.bin").unlink()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as raised:
        load("some/encoder")
    what = "has only pickled weights (.bin), which are never read" if pickled else "has no weights (*.safetensors)"
    assert raised.value.message == what and raised.value.where == "some/encoder"


def test_truncated_weights(study: Files, broken: Path) -> None:
    whole = (broken / "model.safetensors").read_bytes()
    study.write("broken/model.safetensors", whole[: len(whole) // 2])
    study.refused(f"{broken}: the weights cannot be read", "copy them anew")


def test_weights_of_another_model(study: Files, broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    save_file({k.replace("roberta.", "bert."): v for k, v in weights.items()}, broken / "model.safetensors")
    study.refused(f"{broken}: the checkpoint lacks", "weights that the encoder needs", "of another model")


def test_one_missing_weight_is_named(study: Files, broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    del weights["roberta.encoder.layer.1.output.dense.bias"]
    save_file(weights, broken / "model.safetensors")
    study.refused("lacks a weight that the encoder needs", "encoder.layer.1.output.dense.bias")


def test_weights_of_another_shape(study: Files, broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    name = "roberta.encoder.layer.1.output.dense.bias"
    save_file(weights | {name: np.zeros(8, np.float32)}, broken / "model.safetensors")
    study.refused(f"{broken}: the shape of {name} is [8], config.json needs [16]")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_an_encoder_folder_lacks_a_file(study: Files, broken: Path, name: str) -> None:
    (broken / name).unlink()
    study.refused(f"{broken}: has no {name}")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_file_of_the_encoder_is_no_json(study: Files, broken: Path, name: str) -> None:
    (broken / name).write_text('{"model_type": ', encoding="utf-8")
    study.refused(str(broken))


def test_masked_text_needs_a_language_model_head(study: Files, broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    save_file({k: v for k, v in weights.items() if not k.startswith("lm_head")}, broken / "model.safetensors")
    text = "text: {like: masked-text, train_languages: [de], data: {train: de.txt}}\n"
    study.edit("tasks.yaml", "pairs:", text + "pairs:")
    study.edit("recipe.yaml", "phases:\n", "phases:\n  - {name: middle, choices: [[text]]}\n")
    study.refused(f"{broken}: has no language-model head, which the task 'text' needs")


def test_a_layer_that_the_encoder_does_not_have(study: Files) -> None:
    study.edit("tasks.yaml", "languages: [de]", "layer: 3")
    study.edit("tasks.yaml", "data: {test: {path: de.txt", "languages: [de]\n  data: {test: {path: de.txt")
    study.refused("has 2 layers; a task pools hidden state 3")


@pytest.mark.parametrize("mark", [None, '{"version": 99}', '{"version": 1}', "not json"])
def test_an_out_folder_that_is_no_run_folder_of_this_version_is_left_alone(study: Files, mark: str | None) -> None:
    study.out.mkdir()
    study.write("out/letter.txt", "dear ...")
    if mark:
        study.write("out/store.json", mark)
    result = study.run()
    expected = {
        None: "is not a run folder of xstilts",
        "not json": "cannot be read",
        '{"version": 1}': "was made by an earlier version of xstilts (its format is 1, this one reads 2) "
        "(use another --out, or the version of xstilts that made it)",
    }.get(mark, "was made by another version of xstilts (its format is 99")
    assert (result.code, result.err.count("\n")) == (2, 1) and expected in result.err
    assert len(list(study.out.iterdir())) == 1 + bool(mark)


@pytest.mark.parametrize("place", ["tasks.yaml/out", "/proc/out"])
def test_an_out_folder_that_cannot_be_written(study: Files, place: str) -> None:
    result = study.call("run", study.folder / "recipe.yaml", "--out", study.folder / place)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "cannot be written" in result.err and "choose another --out" in result.err


def test_a_report_of_a_missing_run_folder_suggests_one(study: Files) -> None:
    (study.folder / "oot").mkdir()  # no run folder
    study.out.mkdir()
    study.write("out/store.json", "{}")
    result = study.call("report", study.folder / "uot")
    assert (result.code, result.err) == (2, f"error: {study.folder}/uot: no such run folder (did you mean 'out'?)\n")


def run_on_a_small_disk(study: Files, kilobytes: int) -> CliResult:
    """Run where no file can be larger than this, which looks the same as a disk without room for it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, before[1]))
    try:
        return study.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kilobytes", [1, 2, 3, 5, 8, 12, 20, 30, 40])
def test_a_run_resumes_after_a_full_disk(study: Files, kilobytes: int) -> None:
    result = run_on_a_small_disk(study, kilobytes)
    assert result.code == 2 and "the disk is full" in result.err and "finished steps are kept" in result.err
    done = {path: path.stat().st_mtime_ns for path in study.out.glob("steps/*/done.json")}
    assert study.run().code == 0
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    assert len(list(study.out.glob("steps/*/done.json"))) == 3


def test_a_full_disk_while_the_tokenizer_is_saved(study: Files, broken: Path) -> None:
    tokenizer = json.loads((broken / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "x" * 60_000}, "content": ""}
    study.write("broken/tokenizer.json", json.dumps(tokenizer))
    result = run_on_a_small_disk(study, 56)
    assert result.code == 2 and "the disk is full" in result.err
    assert study.run().code == 0


def test_a_damaged_head_is_not_called_a_full_disk(study: Files) -> None:
    assert study.run().code == 0
    (head,) = study.out.glob("steps/*/head-0.safetensors")
    head.write_bytes(head.read_bytes()[:100])
    for step in study.out.glob("steps/*"):
        if json.loads((step / "step.json").read_text())["title"] == "score mine":
            (step / "done.json").unlink()
    result = study.run()
    assert result.code == 2 and str(head) in result.err and "full" not in result.err


@pytest.mark.parametrize(
    ("evaluation_interval", "what"),
    [(1, "the output for example 0 is not a number after update 1"), (4, "the loss is (nan|inf) at update 2")],
)
def test_a_nan_loss_fails_its_step_only(study: Files, evaluation_interval: int, what: str) -> None:
    study.edit("recipe.yaml", "batch: 4", f"batch: 4, eval_every: {evaluation_interval}")
    study.edit("recipe.yaml", "phases:\n", "phases:\n  - {name: middle, choices: [[], [mine]], settings: {lr: 1e38}}\n")
    study.edit("recipe.yaml", "steps: 2", "steps: 4")
    for _ in range(2):  # the second run tries the failed step again, and no other
        result = study.run()
        assert result.code == 2
        assert re.search(rf"{what} of 4 \(try a lower lr", result.err)
        assert "error: 1 step failed; " in result.err
    assert result.err.startswith("3 of 7 steps are done already\n[1/4] middle: mine, seed 1\n")
    assert len(list(study.out.glob("steps/*/done.json"))) == 3


def test_the_command_line_prints_no_traceback_for_a_mistake(study: Files) -> None:
    study.edit("recipe.yaml", "steps: 2", "stpes: 2")
    command = [sys.executable, "-m", "xstilts.cli", "check", study.folder / "recipe.yaml"]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_an_unknown_option_or_choice_exits_with_2(study: Files) -> None:
    assert study.call("run", "quickstart", "--ouput", "x").code == 2
    assert study.call("report", study.out, "--format", "pdf").code == 2
