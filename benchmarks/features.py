"""Features of MNLI's size: room on disk, and seconds to build them beside those of the tokenizer alone.

MNLI's dev pairs are repeated to the size of its training set, with new words among them. In each round the tokenizer
alone goes through the texts (`encode_batch_fast`, its own threads), then the features are built of the file: rows read
and checked, tokenized, assembled, written. Last, the cached features are opened, and an epoch of batches is made of
them. Memory is watched meanwhile. Runs on the CPU.
"""

from __future__ import annotations

import argparse
import csv
import os
import string
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

os.environ["XSTILTS_DEVICE"] = "cpu"

import numpy as np
import tokenizers
from numpy.typing import NDArray

import figures
from xstilts.data.examples import LocatedSplit, locate
from xstilts.model.batch import ShuffledBatches, collate, generator
from xstilts.model.features import CHUNK, FeatureSet, stored
from xstilts.model.tokenizer import Tokenizer
from xstilts.tasks import TASKS
from xstilts.tasks.source import Source

ROOT = Path(__file__).parents[1]
TASK = TASKS["mnli"]
BATCH, LENGTH = 32, 128
MB, MIB = 10**6, 2**20
ROOM = 100
"""Megabytes on disk that are to be kept to."""


def say(text: str) -> None:
    """Print to stderr at once."""
    print(text, file=sys.stderr, flush=True)


def repeated(data: Path, folder: Path, examples: int) -> LocatedSplit:
    """A file of so many pairs, found as the task's training data.

    A set that is so much larger has more words too, as about the 0.6th power of its size by Heaps' law: in each
    repetition the words that occur once have their letters exchanged for others, which gives so many.
    """
    rows = locate(TASK, Source.model_validate("nli_small/mnli.dev.csv"), ("en",), data).read()
    counts = Counter(word for row in rows for text in row.texts for word in text.split(" "))
    once = {word for word, times in counts.items() if times == 1}
    small, large = string.ascii_lowercase, string.ascii_uppercase

    def texts(turn: int) -> Iterator[list[str]]:
        far, way = turn % 26, (-1) ** turn  # 26 alphabets, in both directions
        other = str.maketrans(small + large, "".join((abc[far:] + abc[:far])[::way] for abc in (small, large)))
        for row in rows:
            words = ([word.translate(other) if turn and word in once else word for word in text.split(" ")]
                     for text in row.texts)  # fmt: skip
            yield [*map(" ".join, words), str(row.label)]

    with (folder / "pairs.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(TASK.format.fields)
        writer.writerows(islice((cells for turn in count() for cells in texts(turn)), examples))
    return locate(TASK, Source.model_validate("pairs.csv"), ("en",), folder, train=True)


def tokenizer_alone(tokenizer: tokenizers.Tokenizer, rows: LocatedSplit) -> NDArray[np.float64]:
    """Seconds inside of the tokenizer, for the same texts in equal chunks: those of the clock, of the processors."""
    seconds, examples = np.zeros(2), rows.stream()
    while chunk := list(islice(examples, CHUNK)):
        for texts in zip(*(example.texts for example in chunk), strict=True):
            started, busy = time.perf_counter(), time.process_time()
            tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
            seconds += time.perf_counter() - started, time.process_time() - busy
    return seconds


def epoch(features: FeatureSet) -> Iterator[int]:
    """Tokens of each batch of an epoch."""
    batches = ShuffledBatches(features, BATCH, generator(1, "order"))
    for passes in islice(batches, -(-features.examples // BATCH)):
        yield collate(features, passes, None, generator(1)).tokens


def measure(args: argparse.Namespace, folder: Path) -> str:
    """All figures as Markdown."""
    rows = repeated(args.data, folder, args.examples)
    backend = tokenizers.Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    alone, building, peak, store = [], [], [0], folder
    for turn in range(args.rounds):
        tokenizer = Tokenizer(backend, max_length=LENGTH, unk_id=0)
        alone.append(tokenizer_alone(backend, rows))
        store, started, busy = folder / str(turn), time.perf_counter(), time.process_time()
        with figures.watched(peak):
            stored(store, TASK.format, tokenizer, "", "", rows.sampled)
        building.append(np.array([time.perf_counter() - started, time.process_time() - busy]))
        say(f"round {turn + 1}: {alone[-1]} s alone, {building[-1]} s to build, {peak[0] / MIB:.0f} MiB")
    size = sum(path.stat().st_size for path in store.rglob("*.npy")) / MB
    started = time.perf_counter()
    assert rows.content  # the key needs the file's sha256
    hashed = time.perf_counter() - started
    started = time.perf_counter()
    features = stored(store, TASK.format, tokenizer, "", "", rows.sampled)
    opened, started, growth = time.perf_counter() - started, time.perf_counter(), [0]
    with figures.watched(growth):
        tokens = sum(epoch(features))
    batches = time.perf_counter() - started
    (apart, apart_busy), (whole, whole_busy) = np.median(alone, axis=0), np.median(building, axis=0)
    ratio, ratio_busy = np.median(np.divide(building, alone), axis=0)
    return "\n".join([
        f"{features.examples:,} pairs of {tokens / features.examples:.1f} tokens (vocabulary "
        f"{backend.get_vocab_size():,}, ids of {8 * features.ids_T.itemsize} bits); median of {args.rounds} rounds.",
        "",
        "| | | target | |",
        "|---|---:|---:|---|",
        f"| MB on disk | {size:.1f} | {ROOM} | {'met' if size <= ROOM else 'missed'} |",
        f"| seconds of the tokenizer alone | {apart:.1f} | | |",
        f"| seconds to build | {whole:.1f} | | |",
        f"| ratio of the two | {ratio:.2f} | 1 | {'met' if ratio <= 1 else 'missed'} |",
        f"| processor seconds of the tokenizer alone | {apart_busy:.1f} | | |",
        f"| processor seconds to build | {whole_busy:.1f} | | |",
        f"| ratio of the two | {ratio_busy:.2f} | | |",
        f"| peak memory while building, MiB | {peak[0] / MIB:.0f} | | |",
        f"| seconds to open what is cached | {hashed + opened:.2f} | | |",
        f"| of which sha256 of the data | {hashed:.2f} | | |",
        f"| seconds for an epoch of batches of {BATCH} | {batches:.1f} | | |",
        f"| peak memory meanwhile, MiB | {growth[0] / MIB:.0f} | | |",
    ])  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    data = Path(os.environ.get("XSTILTS_DATA", ROOT.parent / "shared" / "data"))
    add("--data", type=Path, default=data, help="folder that holds nli_small (default: XSTILTS_DATA, ../shared/data)")
    add("--tokenizer", type=Path, help="folder with tokenizer.json (default: models/mini-xlmr beside the data)")
    add("--examples", type=int, default=392_702, help="(default: %(default)s, as MNLI has)")
    add("--rounds", type=int, default=3, help="(default: %(default)s)")
    add("--folder", type=Path, help="where files are written (default: that of temporary files)")
    add("--write", type=Path, metavar="FILE", help="also put the figures between the markers of this Markdown file")
    args = parser.parse_args()
    args.tokenizer = args.tokenizer or args.data.parent / "models" / "mini-xlmr"
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        text = measure(args, Path(folder))
    figures.publish(args.write, "features", text, "tokenizers", "numpy")


if __name__ == "__main__":
    main()
