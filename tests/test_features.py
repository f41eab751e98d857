"""Features on disk: small, built as a stream on all cores, memory-mapped; and sampling of raw text."""

import errno
import resource
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xstilts.data.examples
from conftest import Files
from xstilts.data.examples import LocatedSplit, check, locate
from xstilts.data.sampling import sample_counts
from xstilts.errors import DataError, UserError
from xstilts.formats import Classify, Mask, Span, Tag
from xstilts.formats.base import Example, Format
from xstilts.formats.classify import Labelled
from xstilts.formats.span import Question
from xstilts.formats.tag import Tagged
from xstilts.model.arrays import GrowingArray, memory_map
from xstilts.model.batch import ShuffledBatches, collate, generator
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet, stored
from xstilts.tasks import TASKS
from xstilts.tasks.source import Source
from xstilts.tasks.task import Task

NLI = Classify(labels=("contradiction", "entailment", "neutral"))


def text(folder: Path, sizes: dict[str, int], **fields: Any) -> LocatedSplit:
    """The training set of a masked-text task: so many lines of each language, all different."""
    for code, size in sizes.items():
        (folder / f"{code}.txt").write_text("".join(f"{code} {i} stone\n" for i in range(size)))
    codes = tuple(sizes)
    task = Task(name="t", format=Mask(**fields), metrics=("perplexity",), languages=codes, train_languages=codes,
                data={"train": Source.model_validate("{lang}.txt")})  # fmt: skip
    return locate(task, task.data["train"], codes, folder, train=True)


def built(folder: Path, encoder: Encoder, rows: LocatedSplit) -> FeatureSet:
    return stored(folder / "features", rows.task.format, encoder.tokenizer_for(64), "", rows.content, rows.sampled)


def once(examples: list[Any]) -> Iterator[tuple[Example, int]]:
    return ((example, 1) for example in examples)


@pytest.mark.parametrize(
    ("blocks", "dtype"),
    [
        ([[]], np.uint8),
        ([[0, 255]], np.uint8),
        ([[3], [256], [1]], np.uint16),
        ([[65_535], [], [65_536]], np.uint32),
        ([[2], [-100]], np.int8),
        ([[2], [-100], [1_363]], np.int16),
        ([[70_000], [-100]], np.int32),
        ([[2**40], [-1]], np.int64),
    ],
)
def test_a_growing_array_has_the_smallest_dtype_that_fits(
    blocks: list[list[int]], dtype: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xstilts.model.arrays.BLOCK", 2)
    with GrowingArray(tmp_path / "x.npy") as growing:
        for block in blocks:
            growing.add(np.array(block, np.int64))
    array = memory_map(tmp_path / "x.npy")
    assert array.tolist() == [value for block in blocks for value in block] and array.dtype == dtype


@pytest.mark.parametrize(
    ("form", "examples"),
    [
        (NLI, [Labelled(("the cat", "a stone " * (i % 9)), "neutral" if i % 2 else None) for i in range(50)]),
        (Tag(labels=("A", "B")), [Tagged(("stone", f"w{i}") * (i % 30 + 1), None) for i in range(50)]),
        (Span(), [Question(f"q{i}", "what", "a stone " * (i % 40 + 1), ("stone",), 2) for i in range(50)]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_features_are_the_same_on_any_number_of_cores_and_on_disk(
    form: Format, examples: list[Any], tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FeatureSet.build(form, examples, tiny.tokenizer_for(32))
    assert whole.examples == 50
    monkeypatch.setattr("xstilts.model.features.CHUNK", 7)
    for cores in (1, 4):
        monkeypatch.setattr("xstilts.model.features._processors", lambda cores=cores: cores)
        saved = stored(tmp_path / str(cores), form, tiny.tokenizer_for(32), "", "", lambda: once(examples))
        for name, array in vars(whole).items():
            assert array.tolist() == getattr(saved, name).tolist(), name
        batches = [collate(features, [5, 3, 4], None, generator(0)) for features in (whole, saved)]
        assert [[x.tolist() for x in vars(batch).values() if isinstance(x, torch.Tensor)] for batch in batches[:1]] == [
            [x.tolist() for x in vars(batch).values() if isinstance(x, torch.Tensor)] for batch in batches[1:]
        ]
    assert [note.tolist() for note in whole.decode_info] == [note.tolist() for note in saved.decode_info]


def test_the_features_of_a_pair_take_few_bytes_beside_its_ids(tiny: Encoder, tmp_path: Path) -> None:
    pairs = [Labelled(("the cat", "a stone"), NLI.labels[i % 3]) for i in range(3000)]
    saved = stored(tmp_path, NLI, tiny.tokenizer_for(64), "", "", lambda: once(pairs))
    bytes_ = sum(path.stat().st_size for path in tmp_path.rglob("*.npy"))
    assert saved.ids_T.itemsize == 2 and bytes_ < 2 * len(saved.ids_T) + 16 * len(pairs) + 10 * 128


@pytest.mark.parametrize("error", [DataError("has no label", where="a.tsv:7"), KeyboardInterrupt()])
def test_an_interrupted_build_leaves_no_files(error: BaseException, tiny: Encoder, tmp_path: Path) -> None:
    def read() -> Iterator[tuple[Example, int]]:
        yield from once([Labelled(("a", "b"), None)] * 2000)
        raise error

    with pytest.raises(type(error)) as raised:
        stored(tmp_path, NLI, tiny.tokenizer_for(64), "", "", read)
    assert raised.value is error and not list(tmp_path.iterdir())


def test_two_concurrent_requests_build_features_once(tiny: Encoder, tmp_path: Path) -> None:
    readings: list[int] = []

    def read() -> Iterator[tuple[Example, int]]:
        readings.append(threading.get_ident())
        time.sleep(0.3)  # in which the other one asks
        yield from once([Labelled(("the cat", "a stone"), NLI.labels[0])] * 3)

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(stored, tmp_path, NLI, tiny.tokenizer_for(64), "", "", read) for _ in range(2)]
        assert [found.result().examples for found in both] == [3, 3]
    assert len(readings) == 1 and len([*tmp_path.iterdir()]) == 1


def test_an_error_of_a_format_leaves_the_threads_unchanged(tiny: Encoder, tmp_path: Path) -> None:
    class Refusing(Mask):
        def features(self, examples: Any, pieces: Any) -> Any:
            raise UserError("too odd", where="a.txt:1")

    with pytest.raises(UserError, match="too odd"):
        stored(tmp_path, Refusing(), tiny.tokenizer_for(64), "", "", lambda: once(["a"]))
    assert not list(tmp_path.iterdir())


def test_raw_text_is_read_checked_and_tokenized_as_a_stream(
    tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xstilts.model.features.CHUNK", 32)
    monkeypatch.setattr("xstilts.model.features._processors", lambda: 2)  # each more holds some chunks more
    line = "Der Hund schläft unter dem alten Tisch, und niemand wusste, wo die Brücke war. " * 4
    rows = text(tmp_path, {"de": 1})
    (tmp_path / "de.txt").write_text(f"{line}\n" * 6_000, encoding="utf-8")
    built(tmp_path / "before", tiny, text(tmp_path, {"en": 3}))  # what is loaded only once
    tracemalloc.start()
    try:
        check(rows, print, labels=True)
        features = built(tmp_path, tiny, rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert features.examples == 6_000
    assert peak < (tmp_path / "de.txt").stat().st_size / 2, f"{peak:,}"


def test_sample_sizes_by_hand() -> None:
    # masses 81^.5, 9^.5, 1^.5 = 9, 3, 1 of 13: 69.23, 23.08, 7.69 of a hundred, and the last gets what is left
    assert Mask(alpha=0.5, sentences=50).sample_sizes([81, 9, 1]) == [35, 11, 4]  # 34.6, 11.5, 3.8
    assert Mask(alpha=0.5, sentences=100).sample_sizes([81, 9, 1]) == [63, 21, 7]  # no more than there are
    assert Mask(alpha=0.5).sample_sizes([81, 9, 1]) == [63, 21, 7]  # of 91: exactly
    assert Mask(sentences=10).sample_sizes([81, 9, 10]) == [8, 1, 1]  # 8.1, 0.9, 1.0
    assert Mask(alpha=0).sample_sizes([5, 1]) == [3, 3]
    assert Mask(alpha=0.3, sentences=1).sample_sizes([10, 10]) == [1, 0]
    counts = [6_000_000, 300_000, 7_000]
    masses = [count**0.3 for count in counts]
    sizes = Mask(alpha=0.3, sentences=2_000_000).sample_sizes(counts)
    assert sum(sizes) == 2_000_000
    for quota, mass in zip(sizes, masses, strict=True):
        assert abs(quota - 2_000_000 * mass / sum(masses)) < 1


def test_every_line_is_sampled_equally_often_but_for_one_remainder() -> None:
    drawn = sample_counts(10, 37, "de").tolist()
    assert Counter(drawn) == {3: 3, 4: 7}
    assert drawn == sample_counts(10, 37, "de").tolist() != sample_counts(10, 37, "fr").tolist()
    drawn = sample_counts(60_000, 20_000, "de").tolist()
    assert set(drawn) == {0, 1} and sum(drawn) == 20_000
    for half in (drawn[:30_000], drawn[30_000:]):
        assert abs(sum(half) - 10_000) < 5 * (30_000 * 2 / 9) ** 0.5  # five standard deviations
    assert sample_counts(3, 0, "de").tolist() == [0, 0, 0]


def test_small_languages_are_oversampled_and_large_ones_subsampled(tiny: Encoder, tmp_path: Path) -> None:
    rows = text(tmp_path, {"de": 81, "sw": 9, "yo": 1}, alpha=0.5, sentences=26)
    drawn = list(rows.sampled())
    assert drawn == list(rows.sampled()), "the same is drawn again"
    assert [sum(n for line, n in drawn if line.startswith(code)) for code in ("de", "sw", "yo")] == [18, 6, 2]
    assert len(drawn) == 18 + 6 + 1 and ("yo 0 stone", 2) in drawn
    features = built(tmp_path, tiny, rows)
    assert (features.examples, len(features.lengths_F)) == (26, 25)
    batches = ShuffledBatches(features, 10, generator(1))
    epochs = [[next(batches) for _ in range(3)] for _ in range(2)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [10, 10, 6]
        assert Counter(f for batch in epoch for f in batch) == {**dict.fromkeys(range(24), 1), 24: 2}
    assert epochs[0] != epochs[1]
    batch = collate(features, [24, 3, 24, 24], tiny.masking(), generator(1))
    assert batch.examples == 4 and batch.example_B.tolist() == [0, 1, 2, 3]


def test_sampling_applies_to_training_and_is_part_of_the_features_key(tiny: Encoder, tmp_path: Path) -> None:
    sizes = {"de": 20, "sw": 5}
    sets = [built(tmp_path, tiny, text(tmp_path, sizes, **fields)).examples for fields in
            ({}, {"alpha": 0.5}, {"sentences": 7}, {"alpha": 0.5, "sentences": 7})]  # fmt: skip
    assert sets == [25, 25, 7, 7]
    assert len([path for path in (tmp_path / "features").iterdir() if path.is_dir()]) == 4
    training = text(tmp_path, sizes, sentences=7)
    scoring = locate(training.task, training.task.data["train"], ("de",), tmp_path)
    assert [n for _, n in scoring.sampled()] == [1] * 20


def test_masked_text_is_sampled_as_in_the_paper() -> None:
    form = TASKS["masked-text"].format
    assert isinstance(form, Mask) and (form.alpha, form.sentences) == (0.3, 2_000_000)
    assert not Mask().samples_epoch


def test_data_are_read_again_only_after_a_change(study: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def watched(found: Any, *arguments: Any, **more: Any) -> Any:
        read.extend(Path(path).name for path in found.paths)
        return original(found, *arguments, **more)

    original = xstilts.data.examples.read
    monkeypatch.setattr("xstilts.data.examples.read", watched)
    assert study.run().code == 0
    assert read.count("train-en.tsv") > 1  # each run also reads the first examples, to count unknown tokens

    for done in study.out.glob("steps/*/done.json"):
        done.unlink()
    read.clear()
    assert study.run().code == 0
    assert read.count("train-en.tsv") == 1 and read.count("dev-en.tsv") == 3  # two to stop by, and to be scored

    for done in study.out.glob("steps/*/done.json"):
        done.unlink()
    study.edit("train-en.tsv", "neutral", "nonsense")
    result = study.run()
    assert result.code == 2 and "unknown label 'nonsense'" in result.err
    (study.out / "read.json").write_text("{")
    study.edit("train-en.tsv", "nonsense", "neutral")
    read.clear()
    assert study.run().code == 0 and read.count("train-en.tsv") > 1


def test_warnings_about_data_are_repeated_when_the_data_are_not_read_again(study: Files) -> None:
    study.edit("tasks.yaml", "train: train-en.tsv", "train: {path: train-en.tsv, broken: replace}")
    path = study.folder / "train-en.tsv"
    path.write_bytes(path.read_bytes().replace(b"cat", b"c\xfft"))
    first = study.run()
    for done in study.out.glob("steps/*/done.json"):
        done.unlink()
    again = study.run()
    assert first.code == again.code == 0 and "is not UTF-8" in first.err and "is not UTF-8" in again.err


@pytest.mark.parametrize("room", [0, 4, 16])
def test_a_full_disk_leaves_no_features(room: int, tiny: Encoder, tmp_path: Path) -> None:
    pairs = [Labelled(("the cat", "a stone " * 9), None)] * 2000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room * 1024, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as raised:
            stored(tmp_path, NLI, tiny.tokenizer_for(64), "", "", lambda: once(pairs))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.errno == errno.EFBIG and not list(tmp_path.iterdir())
