"""Trainings that are killed, split or distributed end with the weights of an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conftest import CliResult
from xstilts.errors import StepFailed
from xstilts.formats import Choose, Classify, Mask, Span, Tag
from xstilts.formats.base import Format
from xstilts.formats.choose import Choice
from xstilts.formats.classify import Labelled
from xstilts.formats.span import Question
from xstilts.formats.tag import Tagged
from xstilts.model import heads
from xstilts.model.batch import collate, generator
from xstilts.model.encoder import Encoder, load
from xstilts.model.features import FeatureSet
from xstilts.training.batches import TrainTask
from xstilts.training.checkpoint import Checkpoint
from xstilts.training.log import LogRow
from xstilts.training.loop import Trained, train
from xstilts.training.settings import TaskSettings, TrainSpec

RECIPE = """\
name: mixed
encoder: ENCODER
seeds: [1]
keep: all
use: [tasks.yaml]
settings: {steps: 200, lr: 1e-3, batch: 8, eval_every: 40, limit: 20}
phases:
  - name: all
    choices: [[play-same, play-ner, play-questions, play-facts, {task: text, weight: [1, 3]}]]
evaluate: [play-ner]
languages: [en, qaa]
"""
TASKS = 'text: {like: play-text, languages: [en], train_languages: [en], data: {train: "playground:text/dev"}}\n'


def call(*arguments: str) -> None:
    """The command line in a process of its own, which is quickly there."""
    from xstilts import cli

    sys.argv = ["xstilts", *arguments]
    with Path(os.devnull).open("w") as nothing:
        sys.stdout = sys.stderr = nothing
        cli.main()


@pytest.fixture
def mixed(tmp_path: Path, with_dropout: Path) -> Callable[..., list[str]]:
    """A study on the playground, with dropout; gives the arguments that run it into a folder."""
    (tmp_path / "tasks.yaml").write_text(TASKS, encoding="utf-8")
    (tmp_path / "mixed.yaml").write_text(RECIPE.replace("ENCODER", str(with_dropout)), encoding="utf-8")
    return lambda out, *more: ["run", str(tmp_path / "mixed.yaml"), "--out", str(tmp_path / out), *more]


def weights(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("steps/*/**/*.safetensors")}


def log(out: Path) -> list[dict[str, Any]]:
    """The log without the clock."""
    (path,) = out.glob("steps/*/log.jsonl")
    clock = ("seconds", "examples_per_second", "tokens_per_second")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key not in clock} for row in rows]


def reached_in(out: Path) -> int:
    """The update of the checkpoint there."""
    (state,) = (torch.load(path, weights_only=True) for path in out.glob("steps/*/checkpoint.pt"))
    return int(state["update"])


def an_hour_passed_before(out: Path) -> None:
    """Let the checkpoint there say that its training has taken an hour so far."""
    (path,) = out.glob("steps/*/checkpoint.pt")
    state = torch.load(path, weights_only=True)
    state["training_log"]["seconds"] = 3600.0
    torch.save(state, path)


@pytest.mark.slow
def test_ten_kills_change_no_weight_and_no_log_row(
    tmp_path: Path, mixed: Callable[..., list[str]], xstilts: Callable[..., CliResult]
) -> None:
    assert xstilts(*mixed("whole")).code == 0
    server = get_context("forkserver")
    server.set_forkserver_preload(["xstilts.execution.run", "transformers.models.xlm_roberta.modeling_xlm_roberta"])
    killed, chance, reached = 0, random.Random(0), []
    out = tmp_path / "killed"
    while killed < 10:
        seen = [path.stat().st_mtime_ns for path in out.glob("steps/*/checkpoint.pt")]
        process = server.Process(target=call, args=mixed("killed", "--checkpoint", "0"))
        process.start()
        while process.is_alive() and seen == [p.stat().st_mtime_ns for p in out.glob("steps/*/checkpoint.pt")]:
            time.sleep(0.005)
        end = time.monotonic() + chance.uniform(0, 0.3)  # anywhere: in an update, a look, a writing
        while time.monotonic() < end and reached_in(out) < 15 * (killed + 1):  # of 200, however fast the machine is
            time.sleep(0.005)
        assert process.is_alive(), "the training is over before it was killed ten times: make it longer"
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        killed += 1
        reached.append(reached_in(out))
    assert sorted(set(reached)) == reached and len(reached) == 10, "each try got further"
    assert xstilts(*mixed("killed")).code == 0
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert log(tmp_path / "killed") == log(tmp_path / "whole")
    assert not list(out.glob("steps/*/*checkpoint*"))


def test_an_interrupted_training_writes_a_checkpoint_first(
    tmp_path: Path, mixed: Callable[..., list[str]], xstilts: Callable[..., CliResult]
) -> None:
    assert xstilts(*mixed("whole")).code == 0
    out, reached = tmp_path / "ended", [0]
    for ask, code in ((signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)):
        size = sum(path.stat().st_size for path in out.glob("steps/*/log.jsonl"))
        process = get_context("forkserver").Process(target=call, args=mixed("ended"))
        process.start()
        while process.is_alive() and not any(f.stat().st_size > size for f in out.glob("steps/*/log.jsonl")):
            time.sleep(0.005)
        assert process.pid is not None
        os.kill(process.pid, ask)
        process.join()
        assert process.exitcode == code
        reached.append(reached_in(out))
    assert sorted(set(reached)) == reached and len(reached) == 3, "each try got further"
    an_hour_passed_before(out)
    result = xstilts(*mixed("ended"))
    assert result.code == 0 and f"resumes at update {reached[-1]}" in result.err
    trained, *_ = (json.loads(path.with_name("done.json").read_bytes()) for path in out.glob("steps/*/log.jsonl"))
    assert 3600 < trained["seconds"] < 7200
    assert weights(out) == weights(tmp_path / "whole") and log(out) == log(tmp_path / "whole")


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").touch()
    keeper, before = Checkpoint(tmp_path, 10, []), [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), keeper.delayed_signals():
        signal.raise_signal(signal.SIGINT)
        assert keeper.due()
        keeper.write({"update": 1})
    assert keeper.load() == {"version": 4, "origin": [], "log": "", "update": 1}
    with pytest.raises(KeyboardInterrupt), keeper.delayed_signals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second was held back too")
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_checkpoint_of_other_data_or_a_damaged_one_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("early\n", encoding="utf-8")
    Checkpoint(tmp_path, 0, ["1", "2"]).write({"update": 7})
    (tmp_path / "log.jsonl").write_text("early\nlate\n", encoding="utf-8")
    same = Checkpoint(tmp_path, 0, ["1", "2"])
    assert (same.load() or {})["update"] == 7
    assert (tmp_path / "log.jsonl").read_text(encoding="utf-8") == "early\n"
    assert Checkpoint(tmp_path, 0, ["2", "1"]).load() is None, "two files have changed places"
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    at = whole.index(b"early")
    for damaged in (b"half", whole[:-40], whole[:at] + b"E" + whole[at + 1 :]):
        path.write_bytes(damaged)
        assert same.load() is None
    torch.save([1, 2], path)
    assert same.load() is None


def test_a_checkpoint_is_due_after_its_minutes(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path, 0, []).due() and not Checkpoint(tmp_path, 10, []).due()


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").touch()
    code = """
import resource, signal, sys, torch
from pathlib import Path
from xstilts.training.checkpoint import Checkpoint
keeper = Checkpoint(Path(sys.argv[1]), 0, [])
keeper.write({"update": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    keeper.write({"update": 2, "weights": torch.zeros(10**6)})
except OSError as error:
    print(type(error).__name__, keeper.load()["update"])
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, encoding="utf-8", check=True
    )
    assert result.stdout == "OSError 1\n" and [path.name for path in tmp_path.glob("*.pt*")] == ["checkpoint.pt"]


def test_world_size_without_torchrun_is_refused(
    mixed: Callable[..., list[str]], xstilts: Callable[..., CliResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in ("2", "abc"):
        monkeypatch.setenv("WORLD_SIZE", size)
        result = xstilts(*mixed("out"))
        assert result.code == 2 and "WORLD_SIZE" in result.err and "torchrun" in result.err


# --- batches in parts -----------------------------------------------------------------------------------------------


CASES: dict[str, tuple[Format, Callable[[tuple[str, ...]], list[Any]]]] = {
    "classify": (Classify(labels=("0", "1"), texts=("a", "b")),
                 lambda s: [Labelled((a, b), str(i % 2)) for i, (a, b) in enumerate(zip(s, s[::-1], strict=True))]),
    "tag": (Tag(labels=("O", "B-LOC")),
            lambda s: [Tagged(tuple(t.split()), tuple("O" if len(w) < 5 else "B-LOC" for w in t.split())) for t in s]),
    "choose": (Choose(), lambda s: [Choice(a, s[i : i + 2 + i % 3], i % 2) for i, a in enumerate(s[:-4])]),
    "span": (Span(stride=8),
             lambda s: [Question(str(i), "Who?", " ".join(s[i : i + 9]), (s[i + 3],)) for i in range(8)]),
    "mask": (Mask(), list),
}  # fmt: skip


def learning(encoder: Encoder, name: str, sentences: tuple[str, ...], batch: int) -> TrainTask:
    """A task with a new head of its own."""
    torch.manual_seed(0)
    form, examples = CASES[name][0], CASES[name][1](sentences)
    head = heads.build(form.head, encoder.config, encoder.vocabulary)
    settings = TaskSettings(task=name, weight=1.0, batch=batch, max_length=32, epochs=1)
    masking = encoder.masking() if name == "mask" else None
    return TrainTask(settings, head, FeatureSet.build(form, examples, encoder.tokenizer_for(32)), masking)


SETTINGS = TrainSpec(
    parts=(), lr=1e-3, steps=6, warmup=0.25, weight_decay=0.01, precision="fp32", eval_every=None, patience=2
)


def after(
    encoder: Encoder, part: TrainTask, precision: str = "fp32", **more: Any
) -> tuple[dict[str, torch.Tensor], list[LogRow]]:
    """Weights and log of a training."""
    lines: list[LogRow] = []
    settings = SETTINGS.model_copy(update={"precision": precision})
    train(encoder, [part], settings, seed=1, dev=None, log=lines.append, **more)
    kept = torch.nn.ModuleDict({"encoder": encoder, "head": part.head}).state_dict()
    if part.settings.task in (
        "choose",
        "span",
    ):  # no ending or token gains by a bias: its gradient is rounding, blown up
        del kept["head.out.bias" if part.settings.task == "span" else "head.stock.model.classifier.bias"]
    if part.settings.task == "span":  # nor by what the last layer adds to all tokens
        del kept["encoder.base.encoder.layer.1.output.LayerNorm.bias"]
    return kept, lines


def test_an_interrupt_in_the_last_evaluation_before_early_stopping_loses_nothing(
    tmp_path: Path, encoder_folder: Path, sentences: tuple[str, ...]
) -> None:
    (tmp_path / "log.jsonl").touch()
    often = SETTINGS.model_copy(update={"eval_every": 1})
    kept = Checkpoint(tmp_path, 10, [])

    def trained(dev: Callable[[], float]) -> Trained:
        encoder = load(str(encoder_folder))
        part = learning(encoder, "classify", sentences, 7)
        return train(encoder, [part], often, seed=1, dev=dev, log=lambda _: None, checkpoint=kept)

    asked = iter([False, False, True])
    with pytest.raises(KeyboardInterrupt):
        trained(lambda: 50.0 + (next(asked) and bool(signal.raise_signal(signal.SIGINT))))
    assert trained(pytest.fail).updates == 3


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Six updates move a weight by thousandths; rounding, where gradients are as small as here, by 1e-5."""
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("name", CASES)
def test_a_batch_split_into_parts_gives_the_same_update(
    name: str, encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    results, passes = [], []
    inner = Encoder.hidden
    monkeypatch.setattr(Encoder, "hidden", lambda self, b, layer=None: (passes.append(b), inner(self, b, layer))[1])
    for tokens, packs in ((10**6, True), (100, True), (100, False)):
        encoder = load(str(encoder_folder))
        if not packs:
            encoder.packs = False
            encoder.base.set_attn_implementation("sdpa")
        passes.clear()
        results.append(after(encoder, learning(encoder, name, sentences, 7), tokens=tokens))
        assert (len(passes) == SETTINGS.steps) == (tokens > 100)
        fits = [b.tokens if packs else len(b.lengths_B) * int(b.lengths_B.max()) for b in passes if b.examples > 1]
        assert tokens > 100 or max(fits, default=0) <= 100
    for weights, lines in results[1:]:
        assert_close(results[0][0], weights)
        assert [line.loss for line in lines] == pytest.approx([line.loss for line in results[0][1]], rel=1e-4)


def test_the_endings_of_an_example_stay_in_one_part(tiny: Encoder, sentences: tuple[str, ...]) -> None:
    part = learning(tiny, "choose", sentences, 8)
    batch = collate(part.features, range(len(part.features.lengths_F)), None, generator(0))
    pieces = batch.split(40, whole=True, padded=False)
    assert len(pieces) > 1 and sum(piece.examples for piece in pieces) == batch.examples
    assert all(int((piece.targets_M == 1).sum()) == piece.examples for piece in pieces)
    alone = batch.split(1, whole=False, padded=False)
    assert len(alone) == len(batch.lengths_B) and torch.cat([one.ids_T for one in alone]).equal(batch.ids_T)


class Cramped(Encoder):
    """An encoder on a machine with room for so many tokens, which says so as an accelerator does."""

    room = 60

    def hidden(self, batch: Any, layer: int | None = None) -> torch.Tensor:
        if batch.tokens > self.room:
            raise torch.OutOfMemoryError("no room")
        return super().hidden(batch, layer)


def test_out_of_memory_halves_the_tokens_per_pass(encoder_folder: Path, sentences: tuple[str, ...]) -> None:
    roomy, cramped = (load(str(encoder_folder)) for _ in range(2))
    expected, _ = after(roomy, learning(roomy, "classify", sentences, 7))
    cramped.__class__ = Cramped
    got, _ = after(cramped, learning(cramped, "classify", sentences, 7))
    assert_close(expected, got)
    cramped.room = 5
    with pytest.raises(StepFailed, match=r"one example of \d+ tokens does not fit.*shorter max_length"):
        after(cramped, learning(cramped, "classify", sentences, 7))


# --- several processes ----------------------------------------------------------------------------------------------


def test_three_processes_train_as_one(tmp_path: Path, encoder_folder: Path, xstilts: Callable[..., CliResult]) -> None:
    """In the last batch of an epoch, one example, two of them have no gradient."""
    (tmp_path / "tasks.yaml").write_text(TASKS, encoding="utf-8")
    recipe = RECIPE.replace("ENCODER", str(encoder_folder)).replace("steps: 200", "steps: 20")
    recipe = recipe.replace("limit: 20", "limit: 17")
    recipe = recipe.replace("play-questions, play-facts, ", "")  # whose biases have no gradient but rounding
    recipe = recipe.replace("phases:", "phases:\n  - {name: first, choices: [[text]], seed: 1}")  # loads what it left
    (tmp_path / "mixed.yaml").write_text(recipe, encoding="utf-8")
    arguments = ["run", tmp_path / "mixed.yaml", "--checkpoint", "0", "--out"]
    alone = xstilts(*arguments, tmp_path / "alone")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "3", "--no-python"]
    code = "from xstilts.cli import main; main()"
    both = subprocess.run(
        [*torchrun, sys.executable, "-c", code, *map(str, arguments), str(tmp_path / "both")],
        capture_output=True, encoding="utf-8", check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert both.returncode == 0, both.stderr
    one, two = (
        {path.relative_to(tmp_path / name): load_file(path) for path in (tmp_path / name).rglob("*.safetensors")}
        for name in ("alone", "both")
    )
    assert one.keys() == two.keys() and len(one) == 4
    for path, tensors in one.items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(two[path][name], tensor, atol=1e-5, rtol=0, msg=f"{path} {name}")
    assert both.stdout.splitlines()[:3] == alone.out.splitlines()[:3]
