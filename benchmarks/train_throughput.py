"""Training speed against transformers' Trainer, as ratios: same weights, same batches, same updates, same process.

Six settings, in fp32 and in bf16 autocast: our own training loop; the Trainer padding to each batch's longest (its
default); the Trainer padding to the maximum length. All start from the same random encoder of XLM-R's shape and the
same head. Every setting first runs one round that does not count, then the settings take turns. Peak memory is that of
a process which trains one setting only. Runs on the CPU.
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

import figures
from xstilts import batching, device, heads
from xstilts.data.examples import locate
from xstilts.encoder import load
from xstilts.features import FeatureSet
from xstilts.recipe import NewEncoder
from xstilts.scratch import create
from xstilts.source import Source
from xstilts.step import Learned, Training
from xstilts.tasks import TASKS
from xstilts.train import CLIP, EPSILON, Learning, Logged, train

ROOT = Path(__file__).resolve().parent.parent
TASK = TASKS["mnli"]
LAYERS, HIDDEN, HEADS, VOCABULARY, BATCH, LENGTH = 6, 384, 6, 32_000, 32, 128
LR, WARMUP, DECAY = 5e-5, 0.1, 0.01
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Setting:
    """One way to train; `pads` is None for ours, which pads nothing."""

    pads: Literal["longest", "max_length"] | None
    precision: Precision

    def __str__(self) -> str:
        names = {None: "xstilts", "longest": "Trainer, longest", "max_length": "Trainer, maximum"}
        return f"{names[self.pads]}, {self.precision}"


OURS, LONGEST, MAXIMUM = Setting(None, "fp32"), Setting("longest", "fp32"), Setting("max_length", "fp32")
OURS_BF16, LONGEST_BF16, MAXIMUM_BF16 = (Setting(s.pads, "bf16") for s in (OURS, LONGEST, MAXIMUM))
SETTINGS = (OURS, LONGEST, MAXIMUM, OURS_BF16, LONGEST_BF16, MAXIMUM_BF16)
TARGETS = ((OURS, LONGEST, 1.6), (OURS, MAXIMUM, 3.0), (OURS_BF16, LONGEST_BF16, 1.5), (OURS_BF16, LONGEST, 2.5))
"""Which setting has to be how many times as fast as which."""


@dataclass(frozen=True)
class Run:
    """One training: its speed and the loss of every so many updates."""

    examples_per_second: float
    losses: list[float]


class Classifier(nn.Module):
    """The encoder under our own head, in the shape that the Trainer wants."""

    def __init__(self, base: nn.Module, head: heads.Head, precision: Precision) -> None:
        super().__init__()
        self.base, self.head, self.precision = base, head, precision
        self.losses: list[Tensor] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss and scores."""
        assert torch.is_autocast_enabled("cpu") == (self.precision == "bf16"), "the Trainer has another precision"
        first_BH = self.base(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        at_B, none = torch.arange(len(labels)), labels.new_zeros(0)
        batch = batching.Batch(
            len(labels), none, none, none, at_B, labels, torch.ones_like(labels), torch.arange(len(labels))
        )
        scores_BC = self.head(first_BH, batch)
        loss = self.head.loss(scores_BC, batch)
        self.losses.append(loss.detach())
        return {"loss": loss, "logits": scores_BC}


def pairs(data: Path) -> list[Any]:
    """The sentence pairs of MNLI's dev set."""
    return locate(TASK, Source.model_validate("nli_small/mnli.dev.csv"), ("en",), data).read()


def make_encoder(folder: Path, texts: Sequence[str]) -> None:
    """Write an encoder of XLM-R's shape with random weights, and a tokenizer of unigram pieces trained on the texts."""
    shape = NewEncoder(text=TASK.name, layers=LAYERS, hidden=HIDDEN, heads=HEADS, vocabulary=VOCABULARY, max_length=512)
    encoder = create(shape, texts)
    encoder.base.resize_token_embeddings(VOCABULARY, mean_resizing=False)  # the text may not give that many pieces
    encoder.vocabulary = None
    encoder.save(folder)


class Bench:
    """The data, the initial weights, and one training of any setting."""

    def __init__(self, folder: Path, examples: list[Any]) -> None:
        self.folder = folder
        encoder = load(str(folder))
        assert encoder.packs, "padding-free batches do not work with this encoder"
        self.tokenizer, self.config = encoder.tokenizer, encoder.config
        torch.manual_seed(2)
        self.head = heads.build(TASK.format.head, self.config, None)
        self.features = FeatureSet.build(TASK.format, examples, encoder.pieces(LENGTH))

    def batches(self, seed: int, updates: int) -> list[list[int]]:
        """The batches that `train` draws by this seed."""
        order = batching.generator(seed, "order", 0)
        return list(islice(batching.shuffled(self.features, BATCH, order), updates))

    def run(self, setting: Setting, seed: int, updates: int) -> Run:
        """Train anew, from the same weights, by the batches of the seed."""
        seconds, losses = (self._ours if setting.pads is None else self._trainer)(setting, seed, updates)
        return Run(updates * BATCH / seconds, losses)

    def _ours(self, setting: Setting, seed: int, updates: int) -> tuple[float, list[float]]:
        part = Learned(task=TASK.name, weight=1, batch=BATCH, max_length=LENGTH, epochs=1)
        training = Training(
            parts=(part,), lr=LR, steps=updates, warmup=WARMUP, weight_decay=DECAY, precision=setting.precision,
            eval_every=None, patience=1,
        )  # fmt: skip
        lines: list[Logged] = []
        encoder, head = load(str(self.folder)), copy.deepcopy(self.head)
        learning = [Learning(part, head, self.features, None)]
        started = time.perf_counter()
        train(encoder, learning, training, seed=seed, dev=None, log=lines.append)
        return time.perf_counter() - started, [line.loss for line in lines]

    def _trainer(self, setting: Setting, seed: int, updates: int) -> tuple[float, list[float]]:
        base = load(str(self.folder)).base
        base.set_attn_implementation("sdpa")  # transformers' default
        model = Classifier(base, copy.deepcopy(self.head), setting.precision)
        ids_T, at, targets = self.features.ids_T, self.features.ids_at, self.features.targets_M
        order = [f for batch in self.batches(seed, updates) for f in batch]
        dataset = [{"input_ids": ids_T[at[f] : at[f + 1]].tolist(), "labels": int(targets[f])} for f in order]
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=tempfile.gettempdir(), max_steps=updates, per_device_train_batch_size=BATCH,
                learning_rate=LR, warmup_steps=int(WARMUP * updates), weight_decay=DECAY, max_grad_norm=CLIP,
                adam_epsilon=EPSILON, lr_scheduler_type="linear", train_sampling_strategy="sequential",
                bf16=setting.precision == "bf16", use_cpu=True, seed=seed, dataloader_num_workers=0,
                eval_strategy="no", save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True,
            ),
            train_dataset=dataset,
            data_collator=DataCollatorWithPadding(self.tokenizer, padding=setting.pads or False, max_length=LENGTH),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        seconds = float(trainer.train().metrics["train_runtime"])  # without the Trainer's preparations
        losses = torch.stack(model.losses).tolist()
        every = max(1, min(100, updates // 50))  # as our loop logs them
        return seconds, [fmean(losses[i : i + every]) for i in range(0, updates, every)]


def peak_mib(setting: Setting, folder: Path) -> float:
    """Peak resident memory of a fresh process that trains this setting only."""
    own = ["--encoder", str(folder), "--alone", str(SETTINGS.index(setting))]
    done = subprocess.run([sys.executable, __file__, *sys.argv[1:], *own], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{setting}: the process that measures memory failed\n{done.stderr}")
    return float(done.stdout.splitlines()[-1]) / 2**20


def report(bench: Bench, args: argparse.Namespace, peak: dict[Setting, float], runs: dict[Setting, list[Run]]) -> str:
    """All figures as Markdown."""
    c = bench.config
    speed = {s: median(run.examples_per_second for run in runs[s]) for s in runs}
    batches = [batch for turn in range(args.rounds) for batch in bench.batches(turn + 1, args.updates)]
    lengths_UB = bench.features.lengths_F[np.array(batches)]
    real, longest = float(lengths_UB.mean()), float(lengths_UB.max(1).mean())
    lines = [
        f"Encoder {c.num_hidden_layers} x {c.hidden_size}, vocabulary {c.vocab_size:,}; MNLI dev pairs, batch {BATCH}; "
        f"median of {args.rounds} rounds of {args.updates} updates, after {args.warm} updates to warm up. A pair has "
        f"{real:.1f} tokens; padded to its batch's longest {longest / real:.2f} times as many, padded to {LENGTH} "
        f"{LENGTH / real:.2f} times.",
        "",
        "| setting | examples/s | times Trainer, longest, fp32 | peak memory, MiB | loss, last tenth |",
        "|---|---:|---:|---:|---:|",
    ]
    tail = max(1, len(runs[OURS][-1].losses) // 10)
    for s in SETTINGS:
        loss = fmean(value for run in runs[s] for value in run.losses[-tail:])
        lines.append(f"| {s} | {speed[s]:.1f} | {speed[s] / speed[LONGEST]:.2f} | {peak[s]:,.0f} | {loss:.5f} |")
    lines += ["", "| as fast as | ratio | lowest and highest round | target | |", "|---|---:|---:|---:|---|"]
    for ours, other, target in TARGETS:
        ratio = speed[ours] / speed[other]
        rounds = [a.examples_per_second / b.examples_per_second for a, b in zip(runs[ours], runs[other], strict=True)]
        spread = f"{min(rounds):.2f} to {max(rounds):.2f}"
        lines.append(f"| {ours} / {other} | {ratio:.2f} | {spread} | {target:.1f} | {_met(ratio >= target)} |")
    for ours, other in ((OURS, LONGEST), (OURS_BF16, LONGEST_BF16)):
        ratio = peak[ours] / peak[other]
        lines.append(f"| memory: {ours} / {other} | {ratio:.2f} | | at most 1.0 | {_met(ratio <= 1)} |")
    ours_L, theirs_L = (np.concatenate([run.losses for run in runs[s]]) for s in (OURS, LONGEST))
    gap = np.abs(ours_L - theirs_L).max()
    return "\n".join([*lines, "", f"Largest difference of a logged loss between {OURS} and {LONGEST}: {gap:.1e}."])


def _met(yes: bool) -> str:
    return "met" if yes else "missed"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    data = Path(os.environ.get("XSTILTS_DATA", ROOT.parent / "shared" / "data"))
    add("--data", type=Path, default=data, help="folder that holds nli_small (default: XSTILTS_DATA, ../shared/data)")
    add("--encoder", type=Path, help="encoder to train (default: a random one, tokenizer trained on the pairs)")
    for name, value in {"rounds": 3, "warm": 100, "updates": 60, "memory-updates": 30}.items():
        add(f"--{name}", type=int, default=value, help="(default: %(default)s)")
    add("--threads", type=int, help="of torch (default: torch's)")
    add("--write", type=Path, metavar="FILE", help="also put the figures between the markers of this Markdown file")
    add("--alone", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    examples = pairs(args.data)
    if max(args.updates, args.warm, args.memory_updates) * BATCH > len(examples):
        raise SystemExit(f"{len(examples)} pairs are too few for so many updates")
    if args.alone is not None:
        Bench(args.encoder, examples).run(SETTINGS[args.alone], 1, args.memory_updates)
        print(device.peak_memory(torch.device("cpu")))
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.encoder is None:
            make_encoder(Path(folder), [text for example in examples for text in example.texts])
        measure(args, args.encoder or Path(folder), examples)


def measure(args: argparse.Namespace, folder: Path, examples: list[Any]) -> None:
    """Measure memory, then speed; print the figures, and write them where asked."""
    peak: dict[Setting, float] = {}
    for setting in SETTINGS:  # before this process grows: on Linux a child's peak begins at its parent's
        peak[setting] = peak_mib(setting, folder)
        print(f"memory: {setting}: {peak[setting]:,.0f} MiB", file=sys.stderr, flush=True)
    bench = Bench(folder, examples)
    runs: dict[Setting, list[Run]] = {setting: [] for setting in SETTINGS}
    for turn in range(args.rounds + 1):
        for setting in SETTINGS:
            run = bench.run(setting, turn, args.updates if turn else args.warm)
            print(f"round {turn}: {setting}: {run.examples_per_second:.1f} examples/s", file=sys.stderr, flush=True)
            if turn:
                runs[setting].append(run)
    text = report(bench, args, peak, runs)
    print(text)
    if args.write:
        figures.write(args.write, "train_throughput", f"{text}\n\n{figures.measured('torch', 'transformers')}")


if __name__ == "__main__":
    main()
