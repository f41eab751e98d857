"""A stock head gives the scores of transformers' own model for classification, in every family of docs/encoders.md."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from conftest import Files
from test_encoders import ALIKE, FAMILIES, LENGTHS, PAGE, Family, batch_of, write
from xstilts.formats.base import HeadSpec
from xstilts.model import heads
from xstilts.model.encoder import Encoder, load
from xstilts.model.trained import TrainedModel
from xstilts.study.load import read, shipped
from xstilts.study.plan import plan

MORE = {
    "Electra": Family({"embedding_size": 16}),
    "Xmod": Family({"max_position_embeddings": 66, "languages": ["en_XX", "de_DE"], "default_language": "en_XX"},
                   around="roberta"),
}  # fmt: skip
"""Families whose heads are tested beside those of docs/encoders.md."""
POOLING = {
    "ModernBert": ("cls", "mean"), "EuroBert": ("bos", "mean", "late"),
}  # fmt: skip
"""The families whose configuration says which tokens the head reads."""
CASES = [(name, how) for name in (*FAMILIES, *MORE) for how in POOLING.get(name, ("",))]


def loaded(name: str, pooling: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    family = (FAMILIES | MORE)[name]
    shape = family.shape | ({"classifier_pooling": pooling} if pooling else {})
    monkeypatch.setitem(FAMILIES, name, Family(shape, family.lm, family.around, family.without))
    write(name, folder)
    return load(str(folder)).eval()


def own_model(auto: Any, encoder: Encoder, outputs: int) -> Any:
    """The family's model in transformers, with the encoder's weights and other random ones."""
    config = type(encoder.config).from_dict(encoder.config.to_dict() | {"num_labels": outputs})
    model = auto.from_config(config, attn_implementation="eager").eval()
    getattr(model, model.base_model_prefix).load_state_dict(encoder.base.state_dict(), strict=False)
    return model


def alone(model: Any, encoder: Encoder, ids: Tensor, types: Tensor, *, choices: bool) -> Tensor:
    more = {"token_type_ids": types[None]} if encoder.has_token_types else {}
    if encoder.languages:
        more["langs"] = torch.full_like(ids, encoder.languages["en"])[None]
    inputs = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]} | more
    if choices:
        inputs = {key: value[None] for key, value in inputs.items()}
    with torch.inference_mode():
        scores: Tensor = model(**inputs).logits
    return scores[0]


@pytest.mark.parametrize(("name", "pooling"), [case for case in CASES if "T5" not in case[0]])
@pytest.mark.parametrize("outputs", [3, 1])
def test_the_same_weights_give_the_scores_of_the_familys_own_model(
    name: str, pooling: str, outputs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = loaded(name, pooling, tmp_path, monkeypatch)
    choices = outputs == 1 and name != "EuroBert"  # transformers has no model of it for multiple choice
    auto = transformers.AutoModelForMultipleChoice if choices else transformers.AutoModelForSequenceClassification
    model = own_model(auto, encoder, 2 if choices else outputs)
    head = heads.build(HeadSpec("sequence", outputs), encoder.config, None).eval()
    assert isinstance(head, heads.Stock)
    stock = head.stock.model
    own = model.state_dict()
    with torch.no_grad():
        assert stock.state_dict().keys() < own.keys() and len(stock.state_dict()) > 1
        stock.load_state_dict({key: own[key] for key in stock.state_dict()})
    assert head.stock.reads_first == (pooling not in ("mean", "late"))
    batch = batch_of(*LENGTHS)
    batch.__dict__["positions_M"] = batch.lengths_B.cumsum(0) - batch.lengths_B
    with torch.inference_mode():
        scores = head(encoder.hidden(batch), batch)
    sizes = batch.lengths_B.tolist()
    expected = [
        alone(model, encoder, ids, types, choices=choices)
        for ids, types in zip(batch.ids_T.split(sizes), batch.types_T.split(sizes), strict=True)
    ]
    torch.testing.assert_close(scores, torch.stack(expected), atol=ALIKE, rtol=0)
    assert scores.std(0).min() > 20 * ALIKE, "or the test could not fail"


@pytest.mark.parametrize("name", ["MT5", "UMT5"])
def test_an_encoder_of_an_encoder_decoder_has_the_layers_of_its_familys_head(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = loaded(name, "", tmp_path, monkeypatch)
    head = heads.build(HeadSpec("sequence", 3), encoder.config, None).eval()
    assert isinstance(head, heads.Plain)
    whole = getattr(transformers, f"{name}ForSequenceClassification")
    own: nn.Module = whole(type(encoder.config).from_dict(encoder.config.to_dict() | {"num_labels": 3})).eval()
    layers = own.get_submodule("classification_head")
    layers.load_state_dict({key.replace("out.", "out_proj."): value for key, value in head.state_dict().items()})
    batch = batch_of(*LENGTHS)
    first = batch.lengths_B.cumsum(0) - batch.lengths_B
    batch.__dict__["positions_M"] = first
    with torch.inference_mode():
        hidden = encoder.hidden(batch)
        torch.testing.assert_close(head(hidden, batch), layers(hidden[first]), atol=1e-6, rtol=0)


def test_a_family_whose_model_reads_more_than_hidden_states_has_the_plain_head() -> None:
    config = transformers.LongformerConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=40,
        attention_window=4,
    )  # fmt: skip
    assert isinstance(heads.build(HeadSpec("sequence", 3), config, None), heads.Plain)


def test_a_new_head_has_torchs_initialization_and_draws_only_its_own_numbers(tmp_path: Path) -> None:
    write("Bert", tmp_path)
    config = load(str(tmp_path)).config
    torch.manual_seed(3)
    pooler, classifier = nn.Linear(16, 16), nn.Linear(16, 3)
    torch.manual_seed(3)
    weights = heads.build(HeadSpec("sequence", 3), config, None).state_dict()
    assert [key.partition("model.")[2] for key in weights] == [
        "bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias",
    ]  # fmt: skip
    expected = [pooler.weight, pooler.bias, classifier.weight, classifier.bias]
    assert all(a.equal(b) for a, b in zip(weights.values(), expected, strict=True))


@pytest.mark.parametrize("name", [*FAMILIES, *MORE])
def test_the_page_names_the_weights_of_each_familys_head(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = loaded(name, "", tmp_path, monkeypatch)
    section = PAGE.read_text(encoding="utf-8").partition("## Classification heads")[2]
    (row,) = re.findall(rf"^\| {name} \| (.*) \| (.*) \| .* \|$", section, re.M)
    for outputs, cell in ((3, row[0]), (1, row[1])):
        weights = heads.build(HeadSpec("sequence", outputs), encoder.config, None).state_dict()
        layers = dict.fromkeys(key.removeprefix("stock.model.").rpartition(".")[0] for key in weights)
        assert re.findall(r"`([a-z_.]+)`", cell) == [*layers]


def heads_of(study: Files) -> dict[str, set[str]]:
    """The heads that the records of trained steps name, by the step's title."""
    found: dict[str, set[str]] = {}
    for path in study.out.glob("steps/*/head-0.json"):
        title = json.loads((path.parent / "step.json").read_text())["title"]
        found.setdefault(title, set()).add(json.loads(path.read_text())["head"])
    return found


def test_both_heads_train_average_and_score_in_one_folder(study: Files) -> None:
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2]")
    study.edit("recipe.yaml", "each: [mine]}", "each: [mine], average: [checkpoints, both], snapshots: 2}")
    ids = []
    for head in ("", "head: stock\n", "head: jiant\n"):
        study.edit("recipe.yaml", "settings: {", f"{head}settings: {{")
        result = study.run()
        assert result.code == 0, result.err
        ids.append(set(plan(*read(str(study.folder / "recipe.yaml"))).steps))
        study.edit("recipe.yaml", head, "")
    assert ids[0] == ids[1] and len(ids[0] & ids[2]) == 1, "they share the scoring of the task without training"
    titles = heads_of(study)
    assert len(titles) == 3 and set(map(frozenset, titles.values())) == {frozenset({"stock", "jiant"})}
    names = {"stock": heads.Stock, "jiant": heads.Jiant}
    for path in study.out.glob("steps/*/head-0.json"):
        (head_of,) = TrainedModel.load(path.parent).heads
        assert head_of.record.head is not None and type(head_of.module) is names[head_of.record.head]
        shown = study.call("show", "mine", "de", 1, "--use", study.folder / "tasks.yaml", "--encoder", path.parent)
        assert shown.code == 0 and "\nprediction  " in shown.out, shown.err


def test_a_folder_from_before_the_choice_has_jiants_head(study: Files) -> None:
    study.edit("recipe.yaml", "settings: {", "head: jiant\nsettings: {")
    assert study.run().code == 0
    (path,) = study.out.glob("steps/*/head-0.json")
    record = json.loads(path.read_text())
    assert record.pop("head") == "jiant"
    path.write_text(json.dumps(record))
    (before,) = TrainedModel.load(path.parent).heads
    assert type(before.module) is heads.Jiant and before.record.head is None
    step = next(step for step in plan(*read(str(study.folder / "recipe.yaml"))).steps.values() if step.training)
    assert step.id == path.parent.name and step.training is not None
    assert "head" not in step.training.identity(), "older ids name no head"
    study.edit("recipe.yaml", "head: jiant\n", "")
    assert study.run().code == 0
    assert len([*study.out.glob("steps/*/head-0.json")]) == 2, "the stock head is trained anew"
    shutil.rmtree(study.out)


def test_tasks_without_a_classification_head_are_trained_once_for_both(study: Files) -> None:
    study.edit("tasks.yaml", "like: xnli\n  languages", "like: udpos\n  languages")
    steps = []
    for head in ("stock", "jiant"):
        study.edit("recipe.yaml", "settings: {", f"head: {head}\nsettings: {{")
        steps.append(plan(*read(str(study.folder / "recipe.yaml"))).steps)
        study.edit("recipe.yaml", f"head: {head}\n", "")
    assert steps[0] == steps[1]
    assert {step.training.head for step in steps[0].values() if step.training} == {None}


def test_only_the_papers_recipes_and_those_with_older_numbers_have_jiants_head() -> None:
    found: dict[str, set[str | None]] = {}
    for name in shipped():
        for scale in ("full", "mini") if "\n  mini:" in shipped()[name].read_text(encoding="utf-8") else ("full",):
            steps = plan(*read(name, scale)).steps.values()
            found.setdefault(name, set()).update(step.training.head for step in steps if step.training)
    older = {"real-mini", "real-mini-more", "multi-task", "play-multi-task"}
    for name, kinds in found.items():
        head = "jiant" if name.startswith("paper-") or name in older else "stock"
        assert kinds <= {None, head}, name
        assert head in kinds or name in {"in-language", "few-shot", "joint"}, f"{name} trains no classification"
