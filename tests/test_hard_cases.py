"""Hard cases: run folders killed, shared or tampered with; strange encoders; closed streams."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conftest import SENTENCES, Files
from xstilts.errors import UserError
from xstilts.model.encoder import load
from xstilts.store.run_folder import VERSION, Store, lock_shared, open_or_new
from xstilts.utils.os_errors import as_user_error


def step(out: Path, title: str) -> Path:
    (found,) = (p.parent for p in out.glob("steps/*/step.json") if json.loads(p.read_text())["title"] == title)
    return found


def alone(arguments: list[str], **more: Any) -> subprocess.Popen[str]:
    code = f"import sys; sys.argv[1:] = {arguments!r}; from xstilts.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", code], encoding="utf-8", **more)


# --- the run folder ---------------------------------------------------------------------------------------------------


def test_an_evaluation_is_repeated_after_its_training(study: Files) -> None:
    assert study.run().code == 0
    scored, training = step(study.out, "score mine"), step(study.out, "target: mine")
    before = (scored / "done.json").stat().st_mtime_ns
    shutil.rmtree(training)
    study.edit("train-en.tsv", "The cat sleeps", "The dog barks")
    result = study.run()
    assert result.code == 0 and "[2/2] score mine" in result.err
    assert (scored / "done.json").stat().st_mtime_ns > before


def test_repeating_a_training_undoes_its_dependents(study: Files) -> None:
    assert study.run().code == 0
    scored, training = step(study.out, "score mine"), step(study.out, "target: mine")
    Store(study.out).begin(training.name, {"title": "target: mine"})
    assert not (scored / "done.json").exists() and (step(study.out, "score pairs") / "done.json").exists()


def test_steps_that_another_run_finishes_meanwhile_are_kept(study: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    from xstilts.execution import run

    @contextmanager
    def late(store: Store, say: Any) -> Any:
        monkeypatch.undo()
        assert study.run().code == 0
        before.extend(path.stat().st_mtime_ns for path in study.out.glob("steps/*/done.json"))
        with lock_shared(store, say):
            yield store

    before: list[int] = []
    monkeypatch.setattr(run, "lock_shared", late)
    assert study.run().code == 0
    assert len(before) == 3 and before == [path.stat().st_mtime_ns for path in study.out.glob("steps/*/done.json")]


@pytest.mark.parametrize("damage", ["truncated", "empty", "partly deleted"])
def test_damaged_features_are_rebuilt(study: Files, damage: str) -> None:
    expected = study.run().out
    for path in study.out.glob("features/*/ids_T.npy"):
        content = path.read_bytes()
        path.unlink() if damage == "partly deleted" else path.write_bytes(
            content[:-4] if damage == "truncated" else b""
        )
    (step(study.out, "score mine") / "done.json").unlink()
    assert study.run().out == expected


def test_unfinished_features_are_removed(study: Files) -> None:
    part = study.out / "features" / f"abc.{os.getpid()}.part"
    assert study.run().code == 0
    part.mkdir()
    assert study.run().code == 0 and not part.exists()


def test_a_run_folder_killed_while_created_is_usable(study: Files) -> None:
    (study.out / "steps").mkdir(parents=True)
    study.write("out/.store.json.77.tmp", "{")
    assert study.run().code == 0
    study.write("other", "")
    (study.folder / "steps").mkdir()
    with pytest.raises(UserError, match="is not a run folder"):
        open_or_new(study.folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"inputs": 3}', ""])
def test_a_broken_done_json_is_refused(study: Files, content: str) -> None:
    assert study.run().code == 0
    path = step(study.out, "score mine") / "done.json"
    path.write_text(content)
    result = study.run()
    assert (result.code, result.err) == (
        2,
        f"error: {path}: cannot be read (delete the folder {path.parent} and run again)\n",
    )


def test_missing_scores_are_reported(study: Files) -> None:
    assert study.run().code == 0
    path = step(study.out, "score mine") / "scores.jsonl"
    path.unlink()
    result = study.call("report", study.out)
    assert result.code == 2 and f"{path}: is missing (delete the folder {path.parent} and run again)" in result.err


def test_a_store_json_nested_too_deep_is_refused(study: Files) -> None:
    assert study.run().code == 0
    path = study.write("out/store.json", b"[" * 5000 + b"]" * 5000)
    for command in (
        ["report", study.out],
        ["gc", "--out", study.out],
        ["plan", study.folder / "recipe.yaml", "--out", study.out],
    ):
        result = study.call(*command)
        assert (result.code, result.err) == (2, f"error: {path}: cannot be read\n")


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]"])
def test_a_broken_study_index_is_refused_and_a_run_writes_it_again(study: Files, content: bytes) -> None:
    assert study.run().code == 0
    path = study.write("out/recipes/tiny.json", content)
    result = study.call("report", study.out)
    assert (
        result.code == 2 and f"error: {path}: this is no study" in result.err and "run the recipe again" in result.err
    )
    assert study.run().code == 0


@pytest.mark.parametrize("name", ["recipes", "features", "steps"])
def test_a_file_in_place_of_a_folder_is_refused(study: Files, name: str) -> None:
    study.out.mkdir()
    study.write("out/store.json", json.dumps({"version": VERSION}))
    study.write(f"out/{name}", "")
    result = study.run()
    assert (
        result.code == 2 and result.err.splitlines()[-1].startswith("error: ") and f"{study.out}/{name}" in result.err
    )


def test_a_permission_error_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a/b: cannot be read or written: Permission denied"), as_user_error(tmp_path):
        raise PermissionError(13, "Permission denied", "a/b")


def test_a_damaged_encoder_of_a_step_is_refused(study: Files) -> None:
    assert study.run().code == 0
    training = step(study.out, "target: mine")
    (training / "encoder/model.safetensors").write_bytes(b"12345678")
    (step(study.out, "score mine") / "done.json").unlink()
    result = study.run()
    assert result.code == 2 and f"delete {training} and run again" in result.err


def test_a_data_file_that_appears_after_training_is_refused(study: Files) -> None:
    study.edit("recipe.yaml", "seeds: [1]", "missing: skip\nseeds: [1]")
    away = study.folder / "away.tsv"
    (study.folder / "dev-en.tsv").rename(away)
    study.edit("tasks.yaml", "test: ", 'stop: "dev-de.tsv", test: ')
    assert study.run().code == 0
    away.rename(study.folder / "dev-en.tsv")
    result = study.run()
    assert result.code == 2 and "dev-en.tsv: is new; made from it: 2 evaluations\n" in result.err


def test_another_recipe_of_the_same_name_gives_a_warning(study: Files) -> None:
    assert "earlier" not in study.run().err
    study.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [mine]")
    assert f"the earlier 'tiny' stays as 'tiny@1': xstilts report {study.out} --recipe tiny@1\n" in study.run().err


# --- encoders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(encoder_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(encoder_folder, tmp_path / "copy"))


def save(folder: Path, name: str, tokenizer: Any, **shape: Any) -> None:
    import transformers

    usual = {"vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = getattr(transformers, f"{name}Config")(**usual | {"intermediate_size": 16} | shape)
    getattr(transformers, f"{name}Model")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("name", ["GPT2", "Llama"])
def test_a_decoder_is_refused(name: str, tiny: Any, tmp_path: Path) -> None:
    save(tmp_path, name, tiny.tokenizer)
    with pytest.raises(UserError, match="attends to the left only"):
        load(str(tmp_path))


def test_models_that_do_not_run_on_text_are_refused(tiny: Any, tmp_path: Path) -> None:
    save(tmp_path / "short", "Bert", tiny.tokenizer, max_position_embeddings=4)
    save(tmp_path / "vit", "ViT", tiny.tokenizer, image_size=8, patch_size=4)
    for name in ("short", "vit"):
        with pytest.raises(UserError, match=f"{name}: cannot be run on text"):
            load(str(tmp_path / name))


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(tiny: Any, tmp_path: Path) -> None:
    save(tmp_path, "Bert", tiny.tokenizer, vocab_size=len(tiny.tokenizer) - 1)
    with pytest.raises(UserError, match="the tokenizer has the id"):
        load(str(tmp_path))


def weights(folder: Path, change: Callable[[str, Any], Any]) -> None:
    path = folder / "model.safetensors"
    save_file({name: change(name, value) for name, value in load_file(path).items()}, path, {"format": "pt"})


def test_nan_weights_are_refused(copy: Path) -> None:
    weights(copy, lambda name, value: value * np.float32("nan") if "layer.1.output.dense" in name else value)
    with pytest.raises(UserError, match=r"the weights are broken \(not numbers\)"):
        load(str(copy))


def test_integer_weights_are_refused(copy: Path) -> None:
    weights(copy, lambda name, value: value.astype(np.int8) if "query.weight" in name else value)
    with pytest.raises(UserError, match=r"query.weight is stored as integers \(I8\)"):
        load(str(copy))


def test_a_config_with_fewer_layers_than_the_weights_is_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(UserError, match=r"config.json leaves out 16 weights of the encoder: .*layer.1"):
        load(str(copy))


def test_an_encoder_with_too_few_positions_is_refused(tiny: Any, tmp_path: Path) -> None:
    save(tmp_path / "seven", "Bert", tiny.tokenizer, max_position_embeddings=7)
    with pytest.raises(UserError, match="takes no more than 7 tokens"):
        load(str(tmp_path / "seven"))


def test_a_tokenizer_without_special_tokens_is_refused(copy: Path) -> None:
    tokenizer = json.loads((copy / "tokenizer.json").read_text(encoding="utf-8"))
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}), encoding="utf-8")
    with pytest.raises(UserError, match="puts no special token around a text"):
        load(str(copy))


@pytest.mark.parametrize("wrong", [{"lang2id": None}, {"lang2id": [1]}, {"lang2id": {"de": "x"}},
                                   {"lang2id": {"de": 3}}, {"lang2id": {}, "lang_id": 3}])  # fmt: skip
def test_an_xlm_with_wrong_language_ids_is_refused(wrong: dict[str, Any], tiny: Any, tmp_path: Path) -> None:
    shape = {"emb_dim": 16, "n_layers": 2, "n_heads": 2, "n_langs": 3, "lang2id": {"de": 0, "en": 1}, "lang_id": 1}
    save(tmp_path, "XLM", tiny.tokenizer, **shape)
    load(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | wrong))
    with pytest.raises(UserError, match=r"config.json|lang2id"):
        load(str(tmp_path))


def test_a_masked_language_model_may_lack_its_pooler(tiny: Any, tmp_path: Path) -> None:
    import transformers

    shape = {"vocab_size": len(tiny.tokenizer), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BigBirdConfig(**shape, intermediate_size=16, attention_type="original_full")
    transformers.BigBirdForMaskedLM(config).save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if "pooler" not in name}, path, {"format": "pt"})
    assert load(str(tmp_path)).vocabulary is not None


def test_masked_text_needs_a_mask_token(study: Files, copy: Path) -> None:
    path = copy / "tokenizer_config.json"
    config = {key: value for key, value in json.loads(path.read_text()).items() if key != "mask_token"}
    path.write_text(json.dumps(config))
    study.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [text]")
    study.edit("recipe.yaml", "each: [mine]", "choices: [[text]]")
    study.edit("recipe.yaml", "encoder: ", f"encoder: {copy} # ")
    data = '{train: {path: "playground:text/dev", part: 1/2}, dev: {path: "playground:text/dev", part: 2/2}}'
    study.write("tasks.yaml", f"text: {{like: play-text, languages: [en], train_languages: [en], data: {data}}}\n")
    study.refused(f"{copy}: has no mask token, which the task 'text' needs")
    result = study.call("show", "text", "en", 0, "--use", study.folder / "tasks.yaml", "--encoder", copy)
    assert result.code == 0 and "prediction  none: the tokenizer has no mask token" in result.out, result.err


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["[]", "3", "{}", "null", '{"model": 1}', "{", '{"model_type": "nothing"}'])
def test_broken_json_of_an_encoder_never_ends_in_a_traceback(copy: Path, name: str, content: str) -> None:
    (copy / name).write_text(content)
    try:
        load(str(copy))  # some tokenizer_config.json can be done without
    except UserError as error:
        assert error.where and error.message


# --- the command line -------------------------------------------------------------------------------------------------


def test_an_interrupt_says_how_to_continue(study: Files) -> None:
    study.edit("recipe.yaml", "steps: 2", "steps: 5000")
    running = alone(["run", str(study.folder / "recipe.yaml"), "--out", str(study.out)], stderr=subprocess.PIPE)
    while not list(study.out.glob("steps/*/log.jsonl")) and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 130
    assert err.endswith("interrupted; run the same command again to continue\n") and "Traceback" not in err


def test_output_that_cannot_be_written_exits_with_1() -> None:
    with Path("/dev/full").open("w") as full:
        running = alone(["tasks"], stdout=full, stderr=subprocess.PIPE)
        _, err = running.communicate()
    assert running.returncode == 1 and err.startswith("error: output: ") and err.count("\n") == 1
    closed = f"{sys.executable} -c 'import sys; sys.argv[1:] = [\"tasks\"]; from xstilts.cli import main; main()' >&-"
    result = subprocess.run(closed, shell=True, capture_output=True, encoding="utf-8", check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_output_is_utf8_in_any_locale(study: Files) -> None:
    more = os.environ | {"PYTHONIOENCODING": "ascii"}
    arguments = ["show", "mine", "de", "0", "--use", str(study.folder / "tasks.yaml")]
    running = alone(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=more)
    out, err = running.communicate()
    assert (running.returncode, err) == (0, "") and "ä" in out


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_an_absent_device_is_refused(study: Files, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("XSTILTS_DEVICE", name)
    study.refused(f"XSTILTS_DEVICE: there is no device '{name}' here")


def test_tasks_refuses_a_missing_data_folder(study: Files) -> None:
    result = study.call("tasks", "--data", study.folder / "nothing")
    assert result.code == 2 and "nothing: no such folder" in result.err


def test_a_relative_encoder_path_starts_at_the_working_folder(study: Files) -> None:
    study.edit("recipe.yaml", "encoder: ", "encoder: ./nothing # ")
    study.refused("./nothing: no such folder")


def test_a_tilde_stands_for_the_home_folder(study: Files, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(copy.parent))
    study.edit("recipe.yaml", "encoder: ", "encoder: ~/copy # ")
    assert study.run().code == 0


def test_an_unknown_home_folder_is_refused(study: Files) -> None:
    study.edit("recipe.yaml", "encoder: ", "encoder: ~nosuchuser/a # ")
    study.refused("error: ~nosuchuser/a: the home folder of '~nosuchuser' is not known")
    result = study.call("plan", study.folder / "recipe.yaml")
    assert result.code == 2 and "the home folder of '~nosuchuser' is not known" in result.err
    study.edit("recipe.yaml", "encoder: ~nosuchuser/a", "encoder: {tokenizer: ~nosuchuser/a}")
    study.refused("recipe.yaml:2: encoder.tokenizer: the home folder of '~nosuchuser' is not known")


def test_square_brackets_in_a_users_name_are_printed_as_they_are(study: Files) -> None:
    study.edit("recipe.yaml", "encoder: ", "encoder: 'some/[red]:smile:[/blue]' # ")
    result = study.call("plan", study.folder / "recipe.yaml")
    assert result.code == 0 and result.out.count("some/[red]:smile:[/blue]") > 1, result.out


# --- one row followed -------------------------------------------------------------------------------------------------


def test_show_uses_the_head_of_the_step_it_is_given(study: Files) -> None:
    assert study.run().code == 0
    scored, training = step(study.out, "score mine"), step(study.out, "target: mine")
    use = ("--use", study.folder / "tasks.yaml")
    result = study.call("show", "mine", "de", 0, *use, "--encoder", scored)
    assert result.code == 2 and f"give the step that it evaluates, {training}" in result.err
    result = study.call("show", "mine", "de", 0, *use, "--encoder", training)
    assert result.code == 0 and "prediction" in result.out and "by the head" not in result.out
    study.write("more.yaml", 'other: {like: xnli, languages: [de], data: {test: "test-{lang}.tsv"}}\n')
    result = study.call(
        "show", "other", "de", 0, "--split", "test", "--use", study.folder / "more.yaml", "--encoder", training
    )
    assert result.code == 0 and "(by the head of the task 'mine')" in result.out
    result = study.call("show", "pairs", "de", 0, *use, "--encoder", training)
    assert result.code == 0 and "prediction  none: retrieval needs all candidates" in result.out
    assert SENTENCES[6] in result.out  # whose translation comes first in the alphabet
    for name, content in (("head-0.safetensors", b"12345678"), ("head-0.json", b'{"task": "mine",')):
        (training / name).write_bytes(content)
        result = study.call("show", "mine", "de", 0, *use, "--encoder", training)
        assert result.code == 2 and f"{training / name}: " in result.err
    (training / "head-0.json").write_text('{"task": "mine", "format": {"name": "nothing"}}')
    assert study.call("show", "mine", "de", 0, *use, "--encoder", training).code == 2
