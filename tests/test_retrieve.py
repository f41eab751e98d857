"""Retrieval: every kind of row and of search, and many vectors without filling memory."""

import copy
import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import Files
from xstilts.data.examples import locate
from xstilts.errors import DataError, StepFailed, UserError
from xstilts.formats import Retrieve
from xstilts.formats.base import HeadOutputs, Row
from xstilts.formats.retrieve import Entry
from xstilts.metrics import METRICS
from xstilts.model import forward, heads
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet
from xstilts.tasks.source import Source
from xstilts.tasks.task import Task

MINED, RANKED = Retrieve(find="mined"), Retrieve(find="ranked")


def row(**values: object) -> Row:
    return Row(values, "file", 1)


ALIGNED = [Entry(f"query {i}", f"candidate {i}") for i in range(5)]
POOLED = [
    *(Entry(f"query {i}", None, f"q{i}", (f"c{i}",) if i < 3 else ()) for i in range(5)),
    *(Entry(None, f"candidate {i}", f"c{i}") for i in range(3)),
]


def kept(form: Retrieve, examples: list[Entry], encoder: Encoder, vectors: dict[str, Any]) -> HeadOutputs:
    """What the head keeps if each text has this vector."""
    features = FeatureSet.build(form, examples, encoder.tokenizer_for(64))
    texts = list(chain.from_iterable((e.query, e.candidate) for e in examples))
    rows = [vectors[text] for text in texts if text is not None]
    assert len(rows) == len(features.lengths_F)
    return HeadOutputs(features.example_F, np.array(rows, np.float32))


@pytest.mark.parametrize(
    ("form", "examples"),
    [(Retrieve(), ALIGNED), (MINED, ALIGNED), (MINED, POOLED), (RANKED, ALIGNED), (RANKED, POOLED[:3] + POOLED[5:])],
    ids=["nearest", "mined, aligned", "mined", "ranked, aligned", "ranked"],
)
def test_perfect_vectors_score_100(form: Retrieve, examples: list[Entry], tiny: Encoder) -> None:
    vectors = {f"{kind} {i}": np.eye(10)[i + (5 if kind == "query" and i > 2 and examples is POOLED else 0)]
               for i in range(5) for kind in ("query", "candidate")}  # fmt: skip
    outputs = kept(form, examples, tiny, vectors)
    threshold = form.calibrate(examples, outputs)
    predictions = form.decode(examples, outputs, threshold)
    references = [form.reference(e, i) for i, e in enumerate(examples) if form.is_query(e)]
    assert (threshold is None) == (form.find != "mined")
    assert {
        name: METRICS[name].score(references, predictions, "xx") for name in form.supported_metrics
    } == dict.fromkeys(form.supported_metrics, 100.0)


def test_translations_are_the_queries_and_english_the_candidates(tiny: Encoder) -> None:
    examples = [Retrieve().read(row(source="a", target="b")), Retrieve().read(row(source="c", target="d"))]
    vectors = {"a": [1, 0.1], "b": [1, 0.1], "c": [0, 1], "d": [1, 0.2]}
    assert Retrieve().decode(examples, kept(Retrieve(), examples, tiny, vectors), None) == [0, 0]


def test_examples_beyond_the_limit_stay_candidates() -> None:
    rest = Retrieve().as_candidate(ALIGNED[3])
    assert rest is not None and rest.candidate == "candidate 3" and not Retrieve().is_query(rest)
    assert RANKED.as_candidate(POOLED[0]) is None and not RANKED.is_query(POOLED[-1])
    examples = [*ALIGNED[:2], rest]
    passes = HeadOutputs(np.array([0, 0, 1, 1, 2]), np.array([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]], np.float32))
    assert Retrieve().decode(examples, passes, None) == [2, 2]
    assert RANKED.decode(examples, passes, None) == [["2", "0", "1"]] * 2


def test_a_repeated_sentence_is_mined_once_and_left_out(tiny: Encoder) -> None:
    examples = [
        Entry("one", None, "q0", ("c0",)), Entry("twice", None, "q1", ("c1",)), Entry("twice", None, "q2", ()),
        Entry("three", None, "q3", ()), Entry(None, "eins", "c0"), Entry(None, "zwei", "c1"),
    ]  # fmt: skip
    vectors = {"one": [1, 0, 0], "eins": [1, 0, 0], "twice": [0, 1, 0], "zwei": [0, 1, 0], "three": [0, 0.8, 0.6]}
    outputs = kept(MINED, examples, tiny, vectors)
    assert MINED.decode(examples, outputs, None) == [["c0"], [], [], []]
    assert MINED.calibrate(examples, outputs) == pytest.approx(
        2.4
    )  # cosine 1 / mean of 1/2 (of two) and 1/3 (of three)


def test_without_labels_no_threshold_is_tuned(tiny: Encoder) -> None:
    examples = [Entry("one", None, "q0"), Entry(None, "eins", "c0")]
    outputs = kept(MINED, examples, tiny, {"one": [1, 0], "eins": [1, 0]})
    assert MINED.calibrate(examples, outputs) is None and MINED.reference(examples[0], 0) is None
    assert MINED.decode(examples, outputs, None) == [["c0"]]
    assert MINED.decode(examples, outputs, 1.5) == [[]]


def test_aligned_query_and_candidate_rows_are_read_and_others_refused() -> None:
    assert MINED.read(row(source="s", target="t")) == Entry("t", "s")
    assert MINED.read(row(query="q", id=7, relevant=[8])) == Entry("q", None, "7", ("8",))
    assert RANKED.read(row(query="q", id="7")) == Entry("q", None, "7", None)
    assert RANKED.read(row(candidate="c", id="8")) == Entry(None, "c", "8")
    with pytest.raises(DataError, match=r"file:1: is not a line of aligned text.*`find: mined`"):
        Retrieve().read(row(query="q", id="7"))
    for values in ({"query": "q"}, {"id": "7"}, {"query": "q", "candidate": "c", "id": "7"}):
        with pytest.raises(DataError, match="file:1: needs an id and either a query or a candidate"):
            MINED.read(row(**values))
    with pytest.raises(DataError, match="relevant must be a list of ids, got c1"):
        MINED.read(row(query="q", id="7", relevant="c1"))


def test_find_decides_the_metrics_and_the_leaderboard_file() -> None:
    forms = Retrieve(), MINED, RANKED
    assert [form.metrics for form in forms] == [("accuracy",), ("pair_f1",), ("map@20",)]
    assert [form.supported_metrics for form in forms] == [("accuracy",), ("pair_f1",), ("map@20", "mrr@20")]
    assert [form.file for form in forms] == ["lines", "pairs", "rankings"]


def test_many_vectors_are_kept_in_an_unnamed_file(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    features = FeatureSet.build(Retrieve(), ALIGNED, tiny.tokenizer_for(64))
    head = heads.MeanPool()
    in_memory = forward.head_outputs(tiny, head, Retrieve(), features).scores
    monkeypatch.setattr("xstilts.model.forward.IN_MEMORY", 0)
    mapped = forward.head_outputs(tiny, head, Retrieve(), features).scores
    assert isinstance(mapped, np.memmap) and not isinstance(in_memory, np.memmap)
    assert np.array_equal(mapped, in_memory) and mapped.filename is None
    with pytest.raises(UserError, match=r"the disk is full|cannot be read or written"):
        forward._vectors(2**50, 1)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_non_finite_vectors_fail_the_step(tiny: Encoder, broken: float) -> None:
    features = FeatureSet.build(RANKED, POOLED, tiny.tokenizer_for(64))
    encoder = copy.deepcopy(tiny)
    with torch.no_grad():
        next(encoder.parameters())[features.ids_T[features.ids_at[3] + 1]] = broken
    with pytest.raises(StepFailed, match=r"the output for example \d is not a number"):
        forward.head_outputs(encoder, heads.MeanPool(), RANKED, features)


def write_pairs(study: Files, sentences: tuple[str, ...], splits: tuple[str, ...]) -> None:
    """Tasks `mined` and `ranked` on seven sentences of each side, of which two pairs belong together."""
    for split in splits:
        study.write(f"{split}.de", "".join(f"de-{i}\t{text}\n" for i, text in enumerate(sentences[:7])))
        study.write(f"{split}.en", "".join(f"en-{i}\t{text}\n" for i, text in enumerate(sentences[5:12])))
        study.write(f"{split}.gold", "de-5\ten-0\nde-6\ten-1\n")
    data = ", ".join(f"{one}: {{path: {one}.de, pair: {one}.en, gold: {one}.gold}}" for one in splits)
    shape = f"format: retrieve, languages: [de], data: {{{data}}}, find"
    tasks = (study.folder / "tasks.yaml").read_text(encoding="utf-8")
    own = f"mined: {{{shape}: mined}}\nranked: {{{shape}: ranked, metrics: [mrr@20, map@20]}}\n"
    study.write("tasks.yaml", tasks + own)
    study.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [mine, mined, ranked]")


def test_the_report_says_if_no_dev_set_tunes_the_threshold(study: Files, sentences: tuple[str, ...]) -> None:
    write_pairs(study, sentences, ("test",))
    result = study.run()
    note = "no labelled dev data to tune the threshold on, so scores may be too low: mined"
    assert result.code == 0 and note in " ".join(result.out.split()), result.err


def test_a_study_mines_pairs_by_a_threshold_from_dev_and_ranks(study: Files, sentences: tuple[str, ...]) -> None:
    write_pairs(study, sentences, ("dev", "test"))
    result = study.run()
    assert result.code == 0 and "tune the threshold" not in result.out, result.err
    texts = [path.read_text(encoding="utf-8") for path in study.out.glob("steps/*/predictions.jsonl")]
    rows = [json.loads(line) for text in texts for line in text.splitlines()]
    found = {(row["task"], row["split"], row["id"]): row for row in rows if row["task"] != "mine"}
    assert {key: row["reference"] for key, row in found.items()} == {
        (task, split, f"de-{i}"): {5: ["en-0"], 6: ["en-1"]}.get(i, [])
        for task in ("mined", "ranked") for split in ("dev", "test") for i in range(7)
    }  # fmt: skip
    assert [found["mined", "test", f"de-{i}"]["prediction"] for i in (5, 6)] == [["en-0"], ["en-1"]]
    assert all(row["prediction"][0] == row["reference"][0] for (task, _, id), row in found.items()
               if task == "ranked" and id in ("de-5", "de-6"))  # fmt: skip


@pytest.mark.real
def test_translations_are_sorted_as_officially(shared: Path, tmp_path: Path) -> None:
    case = json.loads((shared / "golden/tatoeba.json").read_text(encoding="utf-8"))["sort_case"]
    lines = case["english_lines"]
    (tmp_path / "x").write_text("\n".join(f"sentence {i}" for i in range(len(lines))), encoding="utf-8")
    (tmp_path / "y").write_text("\n".join(lines), encoding="utf-8")
    task = Task(name="t", format=Retrieve(), metrics=("accuracy",),
                data={"test": Source.model_validate({"path": "x", "pair": "y"})})  # fmt: skip
    found = locate(task, task.data["test"], ("en",), tmp_path).read()
    assert [str(example.query).strip() for example in found] == case["expected_sorted"]
    assert [Retrieve().reference(example, i) for i, example in enumerate(found)] == case["labels"]
