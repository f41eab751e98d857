"""What `gpu.py` measures: products, training, evaluation and the search for neighbours, on made-up tokens and vectors.

Lengths have the mean and the spread of the real texts of `train_throughput.py`; a token's frequency falls with its
number, as in a language. What a model learns from them does not matter to its speed.
"""

# Shape suffixes: F = forward passes, H = hidden size

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

import roofline
import stock
from xstilts.compute import device, memory
from xstilts.compute.neighbours import neighbours
from xstilts.compute.peak_memory import peak_bytes, reset_peak
from xstilts.formats.base import Features, Format
from xstilts.model import forward, gpu_attention, heads
from xstilts.model.batch import Batch, ShuffledBatches, collate, generator
from xstilts.model.encoder import Encoder, quiet
from xstilts.model.features import FeatureSet
from xstilts.model.new_encoder import INPUTS, NAMED, train_tokenizer
from xstilts.model.pretrained_tokenizer import wrapped
from xstilts.tasks import TASKS
from xstilts.training.batches import TrainTask
from xstilts.training.log import LogRow
from xstilts.training.loop import TOKENS, train
from xstilts.training.settings import TaskSettings, TrainSpec

LR, WARMUP, DECAY = 1e-5, 0.1, 0.01
MAX_LENGTH = 512
DATA_BATCHES = 8
"""The data of a training have so many batches."""


@dataclass(frozen=True)
class Size:
    """How much is measured: the encoder's shape and the amounts of data."""

    layers: int
    hidden: int
    vocabulary: int
    smaller: int
    """Batches have so many times fewer examples."""
    texts: int
    """Texts to evaluate."""
    vectors: int
    """Vectors on each side of the search."""
    product: int
    """Rows and columns of the matrix product."""
    product_seconds: float
    windows: int
    """Rows of a training's log whose median is the speed; one before them warms up, one after them is profiled."""
    window: int
    """Updates between two rows."""


XLMR_LARGE = Size(layers=24, hidden=1024, vocabulary=250_002, smaller=1, texts=16_384, vectors=200_000, product=8192,
                  product_seconds=2, windows=5, window=5)  # fmt: skip
TINY = Size(layers=2, hidden=64, vocabulary=600, smaller=16, texts=64, vectors=2_000, product=256,
            product_seconds=0.1, windows=1, window=1)  # fmt: skip


@dataclass(frozen=True)
class Texts:
    """Made-up examples for a task of the catalogue."""

    task: str
    length: float
    """Mean tokens of a forward pass."""
    spread: float
    """Standard deviation of the logarithm of the length."""
    passes: int = 1
    """Forward passes of an example."""

    @property
    def format(self) -> Format:
        """The task's."""
        return TASKS[self.task].format

    def features(self, examples: int, vocabulary: int) -> FeatureSet:
        """So many examples, always the same."""
        rng, mean = np.random.default_rng(0), math.log(self.length) - self.spread**2 / 2
        rows = []
        for f, length in enumerate(rng.lognormal(mean, self.spread, examples * self.passes).tolist()):
            tokens = min(max(round(length), 8), MAX_LENGTH)
            ids = (5 + (vocabulary - 5) ** rng.random(tokens)).astype(int)
            ids[0], ids[-1] = 0, 2
            positions, targets = self._targets(tokens, f, rng)
            rows.append(Features(f // self.passes, ids.tolist(), positions, targets))
        return FeatureSet.of(rows, examples)

    def _targets(self, tokens: int, f: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """The positions that the head of the format reads, and their targets."""
        classes, name = self.format.head.outputs, self.format.name
        if name == "span":
            ends = sorted(rng.integers(1, tokens - 1, 2).tolist())
            return ends, ends
        if name == "tag":  # two pieces a word
            words = list(range(1, tokens - 1, 2))
            return words, rng.integers(classes, size=len(words)).tolist()
        if name == "choose":
            return [0], [int(f % self.passes == 0)]
        return ([0], [f % classes]) if name == "classify" else ([], [])


@dataclass(frozen=True)
class Training:
    """A training to measure."""

    name: str
    texts: Texts
    batch: int
    """Examples of an update."""
    tokens: int = TOKENS
    """The most tokens of one pass."""


TRAININGS = (
    Training("nli", Texts("mnli", 38, 0.5), 24),
    Training("choose", Texts("hellaswag", 49, 0.3, passes=4), 24),
    Training("span", Texts("squad1", 230, 0.3), 8),
    Training("tag", Texts("udpos", 33, 0.5), 32),
    Training("mask", Texts("masked-text", 24, 0.8), 8),
    Training("nli, 8k tokens", Texts("mnli", 128, 0.35), 64),
    Training("nli, 32k tokens", Texts("mnli", 128, 0.35), 256, 4 * TOKENS),
)
EVALUATIONS = {"labels of pairs": Texts("xnli", 38, 0.5), "vectors of sentences": Texts("tatoeba", 20, 0.5)}


def random_encoder(size: Size) -> Encoder:
    """XLM-R's kind of encoder, dropout included, with random weights and a tokenizer of a few words."""
    quiet()
    tokenizer = wrapped(train_tokenizer(["a few words"], 100, "words"), NAMED, **INPUTS)
    tokenizer.model_max_length = MAX_LENGTH
    config = XLMRobertaConfig(
        vocab_size=size.vocabulary, hidden_size=size.hidden, num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 64, intermediate_size=4 * size.hidden,
        max_position_embeddings=MAX_LENGTH + 2, type_vocab_size=1, layer_norm_eps=1e-5,
    )  # fmt: skip
    device.seed(1)
    lm = XLMRobertaForMaskedLM(config)
    return Encoder(lm.roberta, tokenizer, lm=lm)


def launches(events: Iterable[Any]) -> tuple[int, int]:
    """Kernels launched, and waits of the processor for the GPU, among the events of a profile.

    The profiler itself waits for the whole device at its end, which does not count.
    """
    counts = [(event.key, event.count) for event in events]
    kernels = sum(count for key, count in counts if "LaunchKernel" in key)
    waits = sum(count for key, count in counts if "Synchronize" in key and "DeviceSynchronize" not in key)
    return kernels, waits


class _Measured(Exception):
    """A training has run long enough."""


class LogReader:
    """Takes the rows of a training's log: the first warms up, some give the speed, the last is profiled."""

    def __init__(
        self, windows: int, seconds: float, activities: Sequence[ProfilerActivity], found: Callable[..., None]
    ) -> None:
        """Measure so many rows or seconds; `found` gets the numbers by their names."""
        self.windows, self.activities, self.found = windows, activities, found
        self.speeds: list[float] = []
        self.last_step, self.end = 0, time.monotonic() + seconds
        self.profiler: Any = None

    def note(self, row: LogRow) -> None:
        """Take a row of the log.

        Raises:
            _Measured: there is nothing more to measure.
        """
        if self.profiler:
            self.profiler.stop()
            kernels, waits = launches(self.profiler.key_averages())
            updates, self.profiler = row.step - self.last_step, None
            if kernels:  # the row itself has waited once, for the losses
                self.found(kernels_per_update=kernels / updates, waits_per_update=max(0, waits - 1) / updates)
            raise _Measured
        if self.last_step:
            self.speeds.append(row.tokens_per_second)
            self.found(tokens_per_second=median(self.speeds))
        self.last_step = row.step
        if len(self.speeds) == self.windows or (self.speeds and time.monotonic() > self.end):
            self.profiler = profile(activities=self.activities)
            self.profiler.start()

    def close(self) -> None:
        """End a profile that is still open."""
        if self.profiler:
            self.profiler.stop()


class Bench:
    """The measurements on one device; each writes into a dictionary."""

    def __init__(self, size: Size, where: torch.device) -> None:
        self.size, self.where, self.cuda = size, where, where.type == "cuda"
        self.peaks: dict[str, float] = {}
        self.activities = [ProfilerActivity.CUDA if self.cuda else ProfilerActivity.CPU]
        self.notes: set[str] = set()

    def clock(self) -> float:
        """Seconds, once the GPU has done its work."""
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def begin(self) -> float:
        """Begin a new peak of memory; returns the time."""
        memory.free(self.where)
        reset_peak(self.where)
        return self.clock()

    def memory(self) -> int | None:
        """The most bytes since `begin`, of the GPU if there is one."""
        found = peak_bytes(self.where)
        return found.get("accelerator_bytes", found.get("memory_bytes"))

    # --- matrix products ------------------------------------------------------------------------------------------

    def products(self, result: dict[str, Any]) -> None:
        """FLOP/s of large square products in bfloat16 and in float32."""
        for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
            with device.without_tf32():
                result[name] = self.peaks[name] = self._product(dtype)

    def _product(self, dtype: torch.dtype) -> float:
        n, times, best, end = self.size.product, 10, 0.0, time.monotonic() + self.size.product_seconds
        x, y = (torch.randn(n, n, device=self.where).to(dtype) for _ in range(2))
        while not best or time.monotonic() < end:
            started = self.clock()
            for _ in range(times):
                x @ y
            best = max(best, times * 2 * n**3 / (self.clock() - started))
        return best

    def share(self, flop_per_second: float, precision: str = "bf16") -> float | None:
        """The share of the speed of matrix products; None if that was not measured."""
        return flop_per_second / self.peaks[precision] if precision in self.peaks else None

    # --- training -------------------------------------------------------------------------------------------------

    def encoder(self) -> Encoder:
        """The same random encoder each time, on the device."""
        encoder = copy.deepcopy(self._encoder).to(self.where)
        device.use_fast_cuda(self.where)
        if note := encoder.check_packing("bf16"):
            self.notes.add(note)
        return encoder

    def prepare(self) -> None:
        """Make the encoder, and start the profiler once, so that the first training does not pay for it."""
        self.encoder()
        if self.cuda and gpu_attention.attention_kind(self.where) != "flash":
            self.notes.add("attention is padded, because this GPU or this torch has none for packed rows")
        elif self.cuda and not gpu_attention.flash_drops(self.where):
            self.notes.add("attention with dropout is padded, because torch's kernel for packed rows fails the trial")
        with profile(activities=self.activities):
            pass

    @cached_property
    def _encoder(self) -> Encoder:
        return random_encoder(self.size)

    def head(self, encoder: Encoder, form: Format) -> heads.Head:
        """A new head; an encoder that masks no text loses its own, as in a run."""
        head = heads.build(form.head, encoder.config, encoder.vocabulary).to(self.where)
        if form.head.kind != "vocabulary":
            encoder.vocabulary = None
        return head

    def task(self, training: Training, encoder: Encoder) -> TrainTask:
        """The task of a training, with its data."""
        batch, form = max(1, training.batch // self.size.smaller), training.texts.format
        settings = TaskSettings(task=training.name, weight=1, batch=batch, max_length=MAX_LENGTH, epochs=1)
        features = training.texts.features(DATA_BATCHES * batch, self.size.vocabulary)
        masking = encoder.masking() if form.head.kind == "vocabulary" else None
        return TrainTask(settings, self.head(encoder, form), features, masking)

    def train(self, training: Training, result: dict[str, Any], seconds: float) -> None:
        """Our own training loop."""
        encoder = self.encoder()
        task, ours = self.task(training, encoder), result["xstilts"]
        lengths_F, passes = task.features.lengths_F, task.settings.batch * training.texts.passes
        padded = sum(int(some.max()) * len(some) for some in np.split(lengths_F, range(passes, len(lengths_F), passes)))
        result |= {"tokens_per_update": int(lengths_F.sum()) / DATA_BATCHES, "padding": padded / int(lengths_F.sum())}
        flop = self._flop_per_token(encoder, task.features)

        def found(**numbers: float) -> None:
            ours.update(numbers)
            ours["share_of_peak"] = self.share(ours["tokens_per_second"] * flop)

        spec = TrainSpec(parts=(task.settings,), lr=LR, steps=50 * self.size.window, warmup=WARMUP, weight_decay=DECAY,
                         precision="bf16", eval_every=None, patience=1)  # fmt: skip
        self.begin()
        with suppress(_Measured), closing(LogReader(self.size.windows, seconds / 2, self.activities, found)) as reader:
            train(encoder, [task], spec, seed=1, dev=None, log=reader.note, tokens=training.tokens)
        ours["memory_bytes"] = self.memory()
        if self.cuda and ours["kernels_per_update"] is None:
            self.notes.add("the profiler saw no kernels")

    def _flop_per_token(self, encoder: Encoder, features: FeatureSet) -> float:
        """Floating point operations of an update, by the formula of `roofline.py`, for each token."""
        lengths_F = torch.from_numpy(features.lengths_F)
        none = torch.zeros(0)
        tokens = torch.zeros(int(lengths_F.sum()), device="meta")
        everything = Batch(features.examples, tokens, lengths_F, none, none, none, none, none)
        return roofline.flop(encoder, everything) / everything.tokens

    def train_by_trainer(self, training: Training, result: dict[str, Any], seconds: float) -> None:
        """The same updates by transformers' Trainer, which pads each batch to its longest."""
        encoder, theirs = self.encoder(), result["trainer"]
        task, form, ours = self.task(training, encoder), training.texts.format, result["xstilts"]["tokens_per_second"]
        if self.cuda:
            torch.backends.cuda.enable_cudnn_sdp(True)  # torch's default, which our loop turns off
        updates = 3
        if self.cuda and ours:  # as many as fit if the Trainer is five times slower
            updates = min(40, max(updates, int(seconds / 2 * ours / result["tokens_per_update"] / 5)))
        batches = list(self._batches(task, updates))
        for some in (batches[:2], batches):  # the first warms up
            self.begin()
            took, _ = stock.train(encoder, task.head, form.name, some, "bf16", (LR, WARMUP, DECAY), self.clock)
        theirs["tokens_per_second"] = sum(batch.tokens for batch in batches) / took
        theirs["memory_bytes"] = self.memory()
        if ours:
            result["times_as_fast"] = ours / theirs["tokens_per_second"]

    @staticmethod
    def _batches(task: TrainTask, number: int) -> Iterator[Batch]:
        """The first batches that `train` draws."""
        shuffled = ShuffledBatches(task.features, task.settings.batch, generator(1, "order", 0))
        hidden = generator(1, "hidden", 0)
        for _ in range(number):
            yield collate(task.features, next(shuffled), task.masking, hidden)

    # --- evaluation and search ------------------------------------------------------------------------------------

    def evaluate(self, texts: Texts, result: dict[str, Any]) -> None:
        """Forward passes of many texts, with their results on the processor; the second of two times counts."""
        encoder, form = self.encoder().eval(), texts.format
        head, features = self.head(encoder, form).eval(), texts.features(self.size.texts, self.size.vocabulary)
        depth = encoder.retrieval_layer / encoder.layers if form.head.kind == "mean" else 1.0
        flop, tokens = self._flop_per_token(encoder, features) / 3 * depth, int(features.lengths_F.sum())
        for _ in range(2):
            started = self.begin()
            forward.head_outputs(encoder, head, form, features, "bf16")
            seconds = self.clock() - started
        result |= {"tokens": tokens, "tokens_per_second": tokens / seconds, "memory_bytes": self.memory(),
                   "share_of_peak": self.share(tokens / seconds * flop)}  # fmt: skip

    def search(self, result: dict[str, Any]) -> None:
        """The nearest neighbours of random vectors, both ways; a smaller search warms up."""
        width = self.size.hidden
        vectors_FH = np.random.default_rng(0).random((2 * self.size.vectors, width), np.float32) - np.float32(0.5)
        for side in (self.size.vectors // 20, self.size.vectors):
            started = self.begin()
            neighbours(vectors_FH, np.arange(side), np.arange(side, 2 * side), 4)
            seconds = self.clock() - started
        speed = 2 * side**2 * width / seconds
        result |= {"vectors": side, "width": width, "seconds": seconds, "flop_per_second": speed,
                   "share_of_fp32_peak": self.share(speed, "fp32"), "memory_bytes": self.memory()}  # fmt: skip
