"""Retrieval by layer and pooling: an encoder whose hidden states are known, one pass for all of them, other views."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from conftest import SENTENCES, Files
from xstilts.errors import UserError
from xstilts.formats import Retrieve
from xstilts.formats.pooling import Pooling, select
from xstilts.formats.retrieve import Entry
from xstilts.model import forward
from xstilts.model.batch import collate, generator
from xstilts.model.encoder import Encoder, load
from xstilts.model.features import FeatureSet
from xstilts.model.heads import MeanPool
from xstilts.model.new_encoder import create
from xstilts.model.shape import NewEncoder
from xstilts.render.table import Document
from xstilts.reports import StudyResults, layouts, render
from xstilts.store.rows import LayerScore
from xstilts.store.run_folder import Store
from xstilts.study.index import Cell, Study, StudyTask
from xstilts.study.load import read
from xstilts.study.plan import plan

# A word's vector has three parts along 1, -1, 1, -1. The first is misleading: it is the same for a word and the other
# word's translation. The second is right, the third is the same for all words. Mean 0 and variance 1, so that layer
# normalization changes nothing: 4 * (1/4 + 1 + 7/4) = 12.
MISLEADING, RIGHT, SAME = 0.5, 1.0, 1.75**0.5
WORDS = {"Apfel": (-1, 1), "apple": (1, 1), "Birne": (1, -1), "pear": (-1, -1)}
"""The signs of the first two parts."""
WRONG = 4
"""From this layer on the second part is 0."""


def vector(misleading: float, right: float) -> list[float]:
    return [sign * part for part in (misleading * MISLEADING, right * RIGHT, SAME) for sign in (1, -1, 1, -1)]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of six layers that neither attends nor computes, with these exceptions.

    Layer 1 adds the mean of all tokens to each; so `<s>` and `</s>`, which are 0 in state 0, become the word of a
    text of one word. Layer 2 multiplies the second part by 3/4, layer 4 by 0.
    """
    shape = NewEncoder(text="none", layers=6, hidden=12, heads=1, tokenizer="words", max_length=16)
    encoder = create(shape, ["apple pear Apfel Birne"])
    vocabulary = encoder.tokenizer.get_vocab()
    ids = {word: next(id for piece, id in vocabulary.items() if piece.strip("▁Ġ ") == word) for word in WORDS}
    with torch.no_grad():
        for name, weight in encoder.base.named_parameters():
            if "word_embeddings" in name:
                weight.zero_()
                for word, signs in WORDS.items():
                    weight[ids[word]] = torch.tensor(vector(*signs))
            elif "LayerNorm.weight" in name:
                weight.fill_(1)
            else:
                weight.zero_()
        first = encoder.base.encoder.layer[0].attention
        first.self.value.weight.copy_(torch.eye(12))
        first.output.dense.weight.copy_(torch.eye(12))
        for layer, factor in ((2, 0.75), (WRONG, 0)):
            encoder.base.encoder.layer[layer - 1].output.LayerNorm.weight[4:8] = factor
    folder = tmp_path_factory.mktemp("known")
    encoder.save(folder)
    return folder


@pytest.fixture
def fruit(study: Files, known: Path) -> Files:
    """Two pairs to find in aligned text, and the same two to mine."""
    study.write("de.txt", "Apfel\nBirne\n")
    study.write("en.txt", "apple\npear\n")
    for split in ("dev", "test"):
        study.write(f"{split}.de", "d0\tApfel\nd1\tBirne\n")
        study.write(f"{split}.en", "e0\tapple\ne1\tpear\n")
        study.write(f"{split}.gold", "d0\te0\nd1\te1\n")
    data = ", ".join(f"{one}: {{path: {one}.de, pair: {one}.en, gold: {one}.gold}}" for one in ("dev", "test"))
    tasks = (study.folder / "tasks.yaml").read_text(encoding="utf-8")
    study.write("tasks.yaml", f"{tasks}mined: {{format: retrieve, find: mined, languages: [de], data: {{{data}}}}}\n")
    study.write("recipe.yaml", RECIPE.replace("ENCODER", str(known)))
    return study


RECIPE = """\
name: fruit
encoder: ENCODER
use: [tasks.yaml]
settings: {poolings: [mean, cls, concat]}
phases: [{name: none, choices: [[]]}]
evaluate: [pairs]
"""


def by_layer(study: Files) -> dict[tuple[str, str, tuple[int, ...]], float]:
    return {(x["split"], x["pooling"], tuple(x["layers"])): x["value"] for x in rows_in(study, "layers.jsonl")}


def rows_in(study: Files, name: str) -> list[dict[str, Any]]:
    texts = [path.read_text(encoding="utf-8") for path in study.out.glob(f"steps/*/{name}")]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_layers_of_an_encoder_whose_states_are_known(fruit: Files) -> None:
    assert fruit.run().code == 0
    found = by_layer(fruit)
    # Times 12 / (1 + 9/4 + 7) in state 3: cosines 8.25 to the right word and 5.75 to the other; in state 4, where
    # the second part is gone, 6 and 8. Of both layers one after another the right word has 14.25, the other 13.75.
    mean = {("test", "mean", (layer,)): 100 if layer < WRONG else 0 for layer in range(7)}
    # the first token knows the word from layer 1 on; in the embeddings it is the same for all texts
    cls = {("test", "cls", (layer,)): 100 if layer < WRONG else 0 for layer in range(1, 7)}
    concat = {("test", "concat", part): score for part, score in (((1, 2), 100), ((3, 4), 100), ((5, 6), 0))}
    assert found == mean | cls | concat
    own = [(row["value"], row.keys() & {"pooling", "layers"}) for row in rows_in(fruit, "scores.jsonl")]
    assert own == [(0, set())]  # 14/24 of 6 is 4
    shown = fruit.call("report", fruit.out, "--layout", "layers", "--format", "markdown").out
    assert "| Layer 3 | **100.0** | **100.0** |" in shown and "| Layer 5-6 | 0.0 | 0.0 |" in shown
    assert "| CLS 0 |" not in shown and "| CLS 6 | 0.0 | 0.0 |" in shown
    assert "100.0" not in fruit.call("report", fruit.out).out


def test_each_layer_has_its_own_threshold(fruit: Files) -> None:
    fruit.edit("recipe.yaml", "[pairs]", "[mined]")
    fruit.edit("recipe.yaml", "{poolings: [mean, cls, concat]}", "{layer: 0, score_layers: [4, 2]}")
    assert fruit.run().code == 0
    # The margin is the cosine over the mean cosine of both words. State 0: 10 / 12 and 4 / 12, so 10/7 for the right
    # pairs, which is the threshold. State 2: 8.25 and 5.75 of 10.25, so 33/28, below the threshold of state 0.
    scores = {(split, "mean", (layer,)): score for split in ("dev", "test") for layer, score in ((2, 100), (4, 0))}
    assert by_layer(fruit) == scores
    assert [row["value"] for row in rows_in(fruit, "scores.jsonl")] == [100, 100]


def test_the_settings_are_in_the_id_of_retrieval_alone(fruit: Files) -> None:
    fruit.edit("recipe.yaml", "[pairs]", "[pairs, mine]")
    fruit.edit("recipe.yaml", "{name: none, choices: [[]]}", "{name: target, each: [mine]}")
    path = str(fruit.folder / "recipe.yaml")

    def ids(settings: str) -> dict[str, str]:
        fruit.edit("recipe.yaml", "settings: {", f"settings: {{{settings}")
        steps = plan(*read(path)).steps.values()
        fruit.edit("recipe.yaml", f"settings: {{{settings}", "settings: {")
        return {step.name: step.id for step in steps}

    all_kinds = ids("")
    fruit.edit("recipe.yaml", "poolings: [mean, cls, concat]", "")
    usual = ids("")
    changed = {name for name in usual if usual[name] != all_kinds[name]}
    assert changed == {"score pairs"}
    assert ids("poolings: [concat, cls, mean], score_layers: all") == all_kinds  # the order changes nothing
    assert (
        ids("score_layers: all") == ids("poolings: mean") != ids("score_layers: [6, 0]") == ids("score_layers: [0, 6]")
    )


def test_views_of_the_tasks_own_layer_do_not_change(fruit: Files) -> None:
    assert fruit.run().code == 0
    views = ("default", "benchmark", "languages", "selection", "significance")
    shown = [fruit.call("report", fruit.out, "--layout", one, "--format", "json") for one in views]
    files = {path.name: path.read_text() for path in fruit.out.glob("steps/*/*.jsonl")}
    fruit.edit("recipe.yaml", "settings: {poolings: [mean, cls, concat]}\n", "")
    fruit.edit("recipe.yaml", "name: fruit", "name: plain")
    assert fruit.run("--out", fruit.folder / "plain").code == 0
    plain = {path.name: path.read_text() for path in (fruit.folder / "plain").glob("steps/*/*.jsonl")}
    assert files.keys() - plain.keys() == {"layers.jsonl"} and files["predictions.jsonl"] == plain["predictions.jsonl"]
    for one, before in zip(views, shown, strict=True):
        after = fruit.call("report", fruit.folder / "plain", "--layout", one, "--format", "json")
        assert after.code == before.code == 0 and after.out.replace("plain", "fruit") == before.out
    result = fruit.call("report", fruit.folder / "plain", "--layout", "layers")
    assert result.code == 2 and "--layout layers: the study has no scores by layer (give the recipe" in result.err


def test_a_copy_of_the_rows_shows_the_layers(fruit: Files) -> None:
    assert fruit.run().code == 0
    copy = fruit.folder / "copy"
    assert fruit.call("report", fruit.out, "--format", "rows", "--to", copy).code == 0
    reports = [fruit.call("report", x, "--layout", "layers", "--format", "csv").out for x in (fruit.out, copy)]
    assert reports[0] == reports[1] and "pairs,all,concat,3-4,de,test,accuracy,100.0" in reports[0]
    store = Store(copy)
    assert str(fruit.folder) not in str(store.layer_scores(store.study(None)))


EXAMPLES = [Entry(SENTENCES[i], SENTENCES[i + 6]) for i in range(6)]


@pytest.fixture(scope="module")
def deep() -> Encoder:
    shape = NewEncoder(text="none", layers=5, hidden=16, heads=2, vocabulary=400, max_length=64)
    return create(shape, SENTENCES).eval()


def test_all_layers_come_from_one_pass_and_equal_those_of_a_pass_for_each(deep: Encoder) -> None:
    features = FeatureSet.build(Retrieve(), EXAMPLES, deep.tokenizer_for(64))
    batches: list[object] = []
    hook = deep.base.register_forward_pre_hook(lambda *_: batches.append(None))
    poolings = select(("mean", "cls", "concat"), "all", deep.layers)
    vectors = {x: y.scores for x, y in zip(poolings, forward.pooled_outputs(deep, features, poolings), strict=True)}
    assert len(batches) == 1 and len(vectors) == 6 + 5 + 3
    for layer in range(6):
        alone = forward.head_outputs(deep, MeanPool(), Retrieve(layer=layer), features).scores
        assert np.array_equal(vectors[Pooling("mean", (layer,))], alone)
    hook.remove()
    assert len(batches) == 7 and not any(block._forward_pre_hooks for block in deep._blocks())
    thirds = [np.concatenate([vectors[Pooling("mean", (x,))] for x in part], 1) for part in ((1, 2), (3,), (4, 5))]
    assert [np.array_equal(vectors[x], y) for x, y in zip(poolings[-3:], thirds, strict=True)] == [True] * 3
    fourth = collate(features, [3], None, generator(0))
    with torch.inference_mode():
        for layer in range(1, 6):
            first_token = deep.hidden(fourth, layer)[0]
            np.testing.assert_allclose(vectors[Pooling("cls", (layer,))][3], first_token, atol=1e-5)


def test_many_vectors_of_several_layers_are_kept_in_files(deep: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    features = FeatureSet.build(Retrieve(), EXAMPLES, deep.tokenizer_for(64))
    poolings = [Pooling("cls", (2,)), Pooling("mean", (5,)), Pooling("concat", (1, 2))]
    in_memory = [outputs.scores for outputs in forward.pooled_outputs(deep, features, poolings)]
    monkeypatch.setattr("xstilts.model.forward.IN_MEMORY", 0)
    mapped = [outputs.scores for outputs in forward.pooled_outputs(deep, features, poolings)]
    assert [isinstance(one, np.memmap) for one in in_memory + mapped] == [False] * 3 + [True] * 3
    assert all(np.array_equal(one, other) for one, other in zip(in_memory, mapped, strict=True))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"poolings: [mean, cls, concat]": "score_layers: [1, 7]"}, "has 6 layers; a task pools hidden state 7"),
        ({"poolings: [mean, cls, concat]": "poolings: max"}, "needs 'mean', 'cls' or 'concat', got 'max'"),
        ({"poolings: [mean, cls, concat]": "poolings: [cls, cls]"}, "settings.poolings: names cls twice"),
        ({"poolings: [mean, cls, concat]": "poolings: []"}, "settings.poolings: names no pooling"),
        ({"poolings: [mean, cls, concat]": "score_layers: [2, 2]"}, "settings.score_layers: names 2 twice"),
        ({"poolings: [mean, cls, concat]": "score_layers: []"}, "settings.score_layers: names no layer"),
        ({"poolings: [mean, cls, concat]": "score_layers: most"}, "needs `all`, a layer, or a list of layers"),
        ({"poolings: [mean, cls, concat]": "score_layers: -1"}, "a layer is from 0 (the embeddings) to 10,000, got -1"),
        ({"[mean, cls, concat]": "cls, tasks: {mine: {poolings: cls}}"}, "the task 'mine' has the format classify"),
        ({"[pairs]": "[mine]", "none, choices: [[]]": "none, each: [mine]"}, "no evaluated task finds texts (evaluate"),
        ({"[[]]": "[[]], settings: {poolings: cls}"}, "phases[0].settings.poolings: needs each"),
    ],
)
def test_bad_settings_are_refused(fruit: Files, recipe: dict[str, str], message: str) -> None:
    for old, new in recipe.items():
        fruit.edit("recipe.yaml", old, new)
    fruit.refused(message)


def test_the_layers_of_one_encoder_need_not_be_in_another(fruit: Files, encoder_folder: Path, known: Path) -> None:
    starts = f"small: {{encoder: {encoder_folder}}}, deep: {{encoder: {known}, settings: {{score_layers: 5}}}}"
    fruit.edit("recipe.yaml", f"encoder: {known}", f"encoders: {{{starts}}}")
    fruit.edit("recipe.yaml", "{poolings: [mean, cls, concat]}", "{max_length: 16}")
    result = fruit.run()
    assert result.code == 0, result.err
    assert by_layer(fruit) == {("test", "mean", (5,)): 0}
    shown = fruit.call("report", fruit.out, "--layout", "layers", "--format", "markdown").out
    assert "fruit, deep, pairs" in shown and "small, pairs" not in shown


def test_concatenated_parts_need_three_layers(fruit: Files, encoder_folder: Path, known: Path) -> None:
    fruit.edit("recipe.yaml", str(known), str(encoder_folder))
    fruit.refused("tiny: has 2 layers; `poolings: concat` needs 3 (leave concat out of `poolings`)")
    fruit.edit("recipe.yaml", f"encoder: {encoder_folder}", "encoder: {text: play-text, layers: 2}")
    fruit.edit("recipe.yaml", "{poolings", "{score_layers: [1, 3], poolings")
    fruit.refused("the encoder has 2, but `poolings: concat` needs 3", "but the task 'pairs' pools layer 3", lines=2)


def test_a_damaged_file_of_layers_is_named(fruit: Files) -> None:
    assert fruit.run().code == 0
    path = next(fruit.out.glob("steps/*/layers.jsonl"))
    path.write_text(path.read_text().replace('"cls"', '"max"', 1))
    result = fruit.call("report", fruit.out, "--layout", "layers")
    assert result.code == 2 and "layers.jsonl:8: " in result.err and "run again" in result.err
    assert fruit.call("report", fruit.out).code == 0


# The layout, from rows alone: the mean over two languages at each seed, then the median over the seeds.
TASK = StudyTask("bucc2018", "retrieve", "pair_f1", ("pair_f1",), ("de", "zh"), "")


def score(
    pooling: str, layers: Sequence[int], by_seed: dict[int, tuple[float, float]], branch="none"
) -> Iterator[LayerScore]:
    for seed, values in by_seed.items():
        for code, value in zip(("de", "zh"), values, strict=True):
            yield LayerScore("bucc2018", code, "test", "pair_f1", value, 9, f"{branch} {seed}", "some/encoder", seed,
                             pooling=pooling, layers=tuple(layers))  # fmt: skip


def show(rows: Sequence[LayerScore], branches=("none",), **more) -> Document:
    cells = [Cell(branch, seed, "bucc2018", f"{branch} {seed}") for branch in branches for seed in (1, 2, 3)]
    study = Study("mine", "some/encoder", (1, 2, 3), tuple(branches), branches[0], (TASK,), tuple(cells))
    return layouts.show(StudyResults(study, (), layer_scores=lambda: rows, **more), "layers")


ROWS = [
    *score("mean", [1], {1: (40, 20), 2: (44, 10), 3: (10, 30)}),
    *score("mean", [2], {1: (60, 40), 2: (60, 40), 3: (60, 20)}),
    *score("cls", [2], {1: (4, 2), 2: (6, 2), 3: (8, 2)}),
    *score("concat", [1, 2], {1: (50, 50), 2: (50, 50), 3: (50, 50)}),
]


def test_the_layout_has_the_shape_of_table_10() -> None:
    document = show(ROWS)
    lines = [line.strip("| ").split(" | ") for line in render(document, "markdown").splitlines() if "|" in line]
    # Layer 1: the seeds' means are 30, 27, 20
    assert [cells for cells in lines if cells[0].split()[0] in ("pooling", "CLS", "Layer")] == [
        ["pooling", "de", "zh", "mean"],
        ["CLS 2", "6.0", "2.0", "4.0"],
        ["Layer 1", "40.0", "20.0", "27.0"],
        ["Layer 2", "**60.0**", "40.0", "**50.0**"],
        ["Layer 1-2", "50.0", "**50.0**", "**50.0**"],
    ]
    assert "a threshold is tuned on dev for each pooling" in document.legend
    assert [(x.layers, x.median, x.min, x.max, x.seeds) for x in document.rows if x.language == "mean"] == [
        ("2", 4, 3, 5, 3), ("1", 27, 20, 30, 3), ("2", 50, 40, 50, 3), ("1-2", 50, 50, 50, 3)
    ]  # fmt: skip
    assert json.loads(render(document, "json"))["lines"][0]["pooling"] == "cls"


def test_xtreme_s_table_10_stands_beside_bucc_alone() -> None:
    text = render(show(ROWS, beside=True), "markdown")
    assert "| Layer 8 | 64.32 | 62.46 | 50.49 | 53.58 |" in text and "| CLS | 3.88 | 4.73 | 0.89 | 2.15 |" in text
    cells = (Cell("none", 1, "pairs", "none 1"),)
    tasks = (StudyTask("pairs", "retrieve", "pair_f1", ("pair_f1",), ("de",), ""),)
    rows = [LayerScore("pairs", "de", "test", "pair_f1", 5, 9, "none 1", "x", 1, pooling="mean", layers=(1,))]
    results = StudyResults(Study("mine", "x", (1,), ("none",), "none", tasks, cells), (), layer_scores=lambda: rows)
    assert layouts.show(results, "layers").tables
    with pytest.raises(UserError, match="XTREME's Table 10 is of bucc2018, which the study lacks"):
        layouts.show(StudyResults(results.study, (), layer_scores=lambda: rows, beside=True), "layers")


def test_the_figure_draws_scores_over_layers() -> None:
    mean, by_code = show(ROWS).figures
    found = {series.name: [(x, y) for x, y, _ in series.points] for series in mean.series}
    assert found == {
        "mean of tokens": [(1, 27), (2, 50)], "first token": [(2, 4)], "Layer 1-2: 50.0": [(1, 50), (2, 50)]
    }  # fmt: skip
    assert mean.ticks == ("0", "1", "2") and [x.joined for x in mean.series] == [True, True, False]
    assert {x.name: [y for _, y, _ in x.points] for x in by_code.series} == {"de": [40, 60], "zh": [20, 40]}
    drawn = ElementTree.fromstring(render(show(ROWS), "svg"))
    thin = [x for x in drawn.iter("{http://www.w3.org/2000/svg}path") if x.get("stroke-width") == "0.6"]
    assert len(thin) == 4 and all(x.get("fill") == "none" for x in thin)


def test_the_figure_of_several_branches_compares_them() -> None:
    rows = [*ROWS, *score("mean", [2], {1: (70, 50), 2: (70, 50), 3: (70, 50)}, "mnli")]
    document = show(rows, ["none", "mnli"])
    assert [x.name for x in document.figures[0].series] == [
        "none, mean of tokens", "none, first token", "mnli, mean of tokens"
    ]  # fmt: skip
    text = render(document, "markdown")
    assert "| Layer 2 | **50.0** | **60.0** |" in text and "| Layer 1 | 27.0 | - |" in text


@pytest.mark.real
def test_layers_of_a_real_encoder_equal_their_own_steps(fruit: Files, known: Path, shared: Path) -> None:
    """Tatoeba's first pairs; a step by step run with `layer: k` gives the score of layer k."""
    encoder = shared / "models" / "mini-xlmr"
    if not encoder.is_dir():
        pytest.skip(f"needs {encoder}")
    fruit.edit("recipe.yaml", str(known), str(encoder))
    fruit.edit("recipe.yaml", "[pairs]", "[tatoeba]\nlanguages: [de, sw]")
    fruit.edit("recipe.yaml", "{poolings", "{limit: 60, max_length: 32, poolings")
    assert fruit.run("--data", shared / "data").code == 0
    store = Store(fruit.out)
    found = {(x.pooling, x.layers, x.language): x.value for x in store.layer_scores(store.study(None))}
    assert len(found) == 2 * (7 + 6 + 3) and load(str(encoder)).layers == 6
    for layer in (0, 3, 6):
        fruit.edit("recipe.yaml", "settings: {", f"settings: {{layer: {layer}, ")
        assert fruit.run("--data", shared / "data").code == 0
        assert {x.language: x.value for x in store.scores(store.study(None))} == {
            language: found["mean", (layer,), language] for language in ("de", "sw")
        }
        fruit.edit("recipe.yaml", f"settings: {{layer: {layer}, ", "settings: {")
