"""What learning the word table costs: XLM-R base's has 192 of its 278 million weights, a batch touches few of its rows.

Three ways to train the same encoder on the same batches: `dense`, a gradient of the whole table, clipped and then moved
by AdamW with all other weights; `none`, the same with a table that is not trained, the least that can be had; and our
own training loop. The table's share is what `dense` takes beyond `none`. Runs on the CPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn

import figures
import works
from works import PRECISIONS, WORKS, Precision
from xstilts.compute import device
from xstilts.model import heads
from xstilts.model.batch import ShuffledBatches, collate, generator
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet
from xstilts.training.batches import TrainTask
from xstilts.training.log import LogRow
from xstilts.training.loop import train
from xstilts.training.optimizer import CLIP
from xstilts.training.settings import EPSILON, TaskSettings, TrainSpec

LR, DECAY, WARM = 1e-5, 0.01, 2
WAYS = ("dense", "none", "xstilts")
BATCHES = (4, 8, 24, 32)
"""The paper's."""


def plain(
    encoder: Encoder, head: heads.Head, features: FeatureSet, batch: int, precision: Precision, args: argparse.Namespace
) -> Iterator[float]:
    """Seconds of each update by torch's own AdamW."""
    modules = nn.ModuleList([encoder.base, head])
    weights = [weight for weight in modules.parameters() if weight.requires_grad]
    groups = [{"params": [w for w in weights if w.ndim >= 2], "weight_decay": DECAY},
              {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=LR, eps=EPSILON, fused=True)
    passes, rng = ShuffledBatches(features, batch, generator(1, "order", 0)), generator(1, "hidden", 0)
    for _ in range(WARM + args.updates):
        started = args.clock()
        made = collate(features, next(passes), None, rng)
        with device.autocast(encoder.device, precision):
            loss = head.loss(head(encoder.hidden(made), made), made)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield args.clock() - started


def ours(
    encoder: Encoder, head: heads.Head, features: FeatureSet, batch: int, precision: Precision, args: argparse.Namespace
) -> Iterator[float]:
    """Seconds of each update by our own loop."""
    part = TaskSettings(task=WORKS["nli"].task.name, weight=1, batch=batch, max_length=256, epochs=1)
    training = TrainSpec(parts=(part,), lr=LR, steps=WARM + args.updates, warmup=0.1, weight_decay=DECAY,
                        precision=precision, eval_every=None, patience=1)  # fmt: skip
    ends = [args.clock()]

    def note(_: LogRow) -> None:
        ends.append(args.clock())

    encoder.vocabulary = None
    train(encoder, [TrainTask(part, head, features, None)], training, seed=1, dev=None, log=note)
    yield from np.diff(ends).tolist()


def measure(way: str, folder: Path, batch: int, precision: Precision, args: argparse.Namespace) -> float:
    """Median seconds of an update."""
    encoder = works.loaded(folder)
    head = heads.build(WORKS["nli"].task.format.head, encoder.config, None)
    encoder.base.get_input_embeddings().weight.requires_grad_(way != "none")
    encoder.train()
    took = (ours if way == "xstilts" else plain)(encoder, head, args.features, batch, precision, args)
    return median(list(took)[WARM:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--updates", type=int, default=5, help="(default: %(default)s)")
    args = works.arguments(parser, layers=12, hidden=768, vocabulary=250_002)
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        works.make_encoder(folder, works.texts(args.data), layers=args.layers, hidden=args.hidden,
                           vocabulary=args.vocabulary)  # fmt: skip
        args.features = WORKS["nli"].features(works.loaded(folder), args.data)
        for precision in PRECISIONS:
            for batch in BATCHES:
                dense, none, own = (measure(way, folder, batch, precision, args) for way in WAYS)
                rows.append(f"| {precision} | {batch} | {1e3 * dense:,.0f} | {1e3 * none:,.0f} "
                            f"| {100 * (dense - none) / dense:.0f} % | {1e3 * own:,.0f} "
                            f"| {100 * (own - none) / own:.0f} % | {dense / own:.2f} |")  # fmt: skip
                print(rows[-1], file=sys.stderr, flush=True)
    text = "\n".join([
        f"Encoder {args.layers} x {args.hidden}, vocabulary {args.vocabulary:,}; pairs; milliseconds of an update, "
        f"median of {args.updates} after {WARM} to warm up.",
        "",
        "| precision | examples an update | dense | none | the table's share | xstilts | its share | times as fast as "
        "dense |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *rows,
    ])  # fmt: skip
    figures.publish(args.write, "word_table", text, "torch", "transformers")


if __name__ == "__main__":
    main()
