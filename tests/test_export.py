"""`export` writes folders that other libraries load with the scores of the model, or says why it cannot."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, processors
from transformers import AutoConfig, AutoTokenizer

from conftest import SENTENCES, CliResult
from test_encoders import FAMILIES, Family, write
from test_stock_head import MORE
from xstilts import UserError, load
from xstilts.formats import Choose, Classify, Span, Tag
from xstilts.formats.base import Format
from xstilts.model import heads
from xstilts.model.encoder import load as load_encoder
from xstilts.model.trained import HeadRecord, TrainedHead, TrainedModel
from xstilts.predict.export import export

LABELS = ("bad", "so so", "good")
FORMATS: dict[str, Format] = {
    "text": Classify(labels=LABELS, texts=("text",)), "pair": Classify(labels=LABELS), "choose": Choose(),
    "tag": Tag(labels=("O", "B-LOC", "I-LOC")), "span": Span(),
}  # fmt: skip
CLASSES = {
    "text": "SequenceClassification", "pair": "SequenceClassification", "choose": "MultipleChoice",
    "tag": "TokenClassification", "span": "QuestionAnswering",
}  # fmt: skip
WITHOUT_CLASS = {
    ("EuroBert", "choose"), ("EuroBert", "span"),
    *((family, form) for family in ("MT5", "UMT5") for form in ("text", "pair", "choose", "span")),
}  # fmt: skip
"""Families that lack a class in transformers, or whose class reads the decoder."""
ALL = FAMILIES | MORE


def model_of(
    family: str, form: str, folder: Path, monkeypatch: pytest.MonkeyPatch, head: Any = "stock", **shape: Any
) -> Path:
    """A trained model's folder, with random weights that make scores differ between texts."""
    known = ALL[family]
    monkeypatch.setitem(FAMILIES, family, Family(known.shape | shape, known.lm, known.around, known.without))
    write(family, folder / "hub")
    encoder, format = load_encoder(str(folder / "hub")).eval(), FORMATS[form]
    with torch.no_grad():
        for weight in encoder.base.parameters():
            if weight.ndim == 1:  # norms that are more than 1, biases that are more than 0
                weight.add_(torch.randn(len(weight)) / 4)
    module = heads.build(format.head, encoder.config, None, head).eval()
    record = HeadRecord(
        task="mine", format=format, head=head if format.head.kind == "sequence" else None, metric="accuracy",
        languages=("en",), max_length=48, tokenizer=encoder.tokenizer_digest(),
    )  # fmt: skip
    TrainedModel(encoder, [TrainedHead(record, module)]).save(folder / "model")
    return folder / "model"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("family", ALL)
def test_transformers_own_classes_have_the_models_scores(
    family: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = model_of(family, form, tmp_path, monkeypatch), tmp_path / "out"
    if family == "XLM" or (family, form) in WITHOUT_CLASS:
        what = "the encoder reads each text's language" if family == "XLM" else "transformers has no class of"
        with pytest.raises(UserError, match=what):
            export(folder, out)
        assert [path.name for path in tmp_path.iterdir() if path.name not in ("hub", "model")] == []
        return
    found = export(folder, out)
    assert (found.reader, found.folder) == (f"{family}For{CLASSES[form]}", out)
    assert found.difference < 1e-5 and found.texts == 6
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    words = json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert (config["dtype"], words["model_max_length"]) == ("float32", 48)
    labels = FORMATS[form].labels if form in ("text", "pair", "tag") else None  # type: ignore[attr-defined]
    assert [*config.get("id2label", {}).values()] == [*(labels or ())]
    assert str(tmp_path) not in json.dumps([config, words])


@pytest.fixture
def trained(study: Any) -> Path:
    """A study on two classes of reviews, trained for a few updates with the family's own head."""
    (study.folder / "tasks.yaml").write_text(REVIEWS, encoding="utf-8")
    (study.folder / "recipe.yaml").write_text(
        (study.folder / "recipe.yaml").read_text(encoding="utf-8").replace("[pairs, mine]", "[mine]"), encoding="utf-8"
    )
    rows = "".join(f'"{text}",{"bad" if i % 3 else "good"}\n' for i, text in enumerate(SENTENCES))
    study.write("train-en.csv", f"text,label\n{rows}")
    study.write("test-en.csv", "text,label\nNie wieder.,bad\nGern wieder!,good\n")
    assert study.run().code == 0
    return Path(study.out / "best/tiny/mine")


REVIEWS = """\
mine:
  format: classify
  texts: [text]
  labels: [bad, good]
  languages: [en]
  data: {train: train-en.csv, test: test-en.csv}
"""
STOCK = """\
import json, sys
from transformers import pipeline
texts = sys.stdin.read().splitlines()
found = pipeline("text-classification", model=sys.argv[1], top_k=None, device="cpu")(texts, truncation=True)
assert not [name for name in sys.modules if name.split(".")[0] == "xstilts"]
print(json.dumps([{one["label"]: one["score"] for one in row} for row in found]))
"""


def test_a_pipeline_in_a_fresh_process_predicts_what_predict_does(
    trained: Path, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    result = xstilts("export", trained, tmp_path / "new" / "out")
    assert result.code == 0 and "out: XLMRobertaForSequenceClassification, within " in result.out, result.err
    (tmp_path / "texts.txt").write_text("\n".join((*SENTENCES, " ".join(SENTENCES))), encoding="utf-8")
    predicted = [json.loads(line) for line in xstilts("predict", trained, tmp_path / "texts.txt").out.splitlines()]
    command = [sys.executable, "-c", STOCK, str(tmp_path / "new" / "out")]
    with (tmp_path / "texts.txt").open(encoding="utf-8") as texts:
        done = subprocess.run(command, stdin=texts, capture_output=True, encoding="utf-8", cwd=tmp_path, check=True)
    theirs = json.loads(done.stdout)
    assert "MISSING" not in done.stderr and len(theirs) == len(predicted) == 21
    for own, other in zip(predicted, theirs, strict=True):
        assert other == pytest.approx(own["probabilities"], abs=6e-5)
    assert predicted[-1]["truncated"]


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder_folder: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine", encoding="utf-8")
    jiant = model_of("Bert", "text", tmp_path / "jiant", monkeypatch, "jiant")
    broken = model_of("ModernBert", "tag", tmp_path / "broken", monkeypatch)
    weights = load_file(broken / "encoder/model.safetensors")
    weights["model.final_norm.weight"][3] = 0.0  # what the norm has lost cannot be had back
    save_file(weights, broken / "encoder/model.safetensors", {"format": "pt"})
    for folder, out, message in (
        (jiant, full, r"full: is not empty \(give a new folder\)"),
        (jiant, full / "mine.txt", "mine.txt: is a file"),
        (
            jiant,
            tmp_path / "out",
            "transformers has no class with jiant's head .--to onnx and --to hf-code export it; ",
        ),
        (broken, tmp_path / "out", "the scores of the export differ by inf .at most 1e-05., so it is not kept"),
        (encoder_folder, tmp_path / "out", "has no head that predicts labels"),
        (tmp_path / "none", tmp_path / "out", "no such folder"),
    ):
        with pytest.raises(UserError, match=message):
            export(folder, out)
    assert [path.name for path in full.iterdir()] == ["mine.txt"] and not (tmp_path / "out").exists()
    assert not [*tmp_path.glob(".*")]


def test_out_may_be_a_link_to_a_folder_but_not_the_folder_that_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = model_of("Bert", "text", tmp_path / "model", monkeypatch)
    (tmp_path / "empty").mkdir()
    for link, target in (("link", "empty"), ("dangling", "new")):
        (tmp_path / link).symlink_to(tmp_path / target)
        assert export(trained, tmp_path / link).folder == tmp_path / link
        assert (tmp_path / link).is_symlink() and (tmp_path / target / "model.safetensors").is_file()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match=r"^\.: is the folder that you are in \(give a new folder\)$"):
        export(trained, ".")
    assert not [*tmp_path.glob(".*")]


def test_notes_say_what_transformers_does_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert export(model_of("Bert", "tag", tmp_path / "a", monkeypatch), tmp_path / "tags").notes == (
        "texts may have 48 tokens: tokenize with truncation=True",
        "a word has the tag of its first piece: pipeline(..., aggregation_strategy='first')",
    )


@pytest.mark.parametrize("rules", ["roberta", "template"])
def test_token_types_of_pairs_are_those_of_the_training(
    rules: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A BERT with the pieces of another family: its tokenizer.json numbers every token 0."""
    monkeypatch.setitem(ALL, "Bert", Family(around="roberta"))
    folder = model_of("Bert", "pair", tmp_path, monkeypatch)
    path = folder / "encoder/tokenizer.json"
    if rules == "roberta":
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
        tokenizer.save(str(path))
        record = json.loads((folder / "head-0.json").read_text(encoding="utf-8"))
        record["tokenizer"] = load_encoder(str(folder / "encoder")).tokenizer_digest()
        (folder / "head-0.json").write_text(json.dumps(record), encoding="utf-8")
    export(folder, tmp_path / "out")
    found = AutoTokenizer.from_pretrained(tmp_path / "out")("a cat", "a dog", return_offsets_mapping=True)
    start = found["input_ids"].index(2) + 2
    assert found["token_type_ids"] == [0] * start + [1] * (len(found["input_ids"]) - start)
    assert found["offset_mapping"][1][0] == 0 and found["offset_mapping"][-2][1] == 5


@pytest.mark.parametrize("family", ALL)
def test_sentence_transformers_gives_the_vectors_of_retrieval(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three layers: retrieval reads state 2, and a family that ends in a norm keeps the third."""
    folder, out = model_of(family, "text", tmp_path, monkeypatch), tmp_path / "out"
    if family == "XLM":
        with pytest.raises(UserError, match="the encoder reads each text's language"):
            export(folder, out, "sentence-transformers")
        return
    found = export(folder, out, "sentence-transformers")
    assert found.difference < 1e-5 and found.notes == ()
    names = [row["type"].rpartition(".")[2] for row in json.loads((out / "modules.json").read_text(encoding="utf-8"))]
    config = AutoConfig.from_pretrained(out)
    ends_in_norm = family in ("ModernBert", "EuroBert", "MT5", "UMT5")
    more = ["WeightedLayerPooling"] if ends_in_norm else []
    assert names == ["Transformer", *more, "Pooling"] and config.num_hidden_layers == 2 + ends_in_norm
    own = [one["vector"] for one in load(folder, vectors=True).predict(SENTENCES)]
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(str(out), device="cpu")
    assert model.max_seq_length == 48
    theirs = model.encode([*SENTENCES], show_progress_bar=False)
    assert abs(theirs - own).max() < 1e-5 * max(1.0, abs(theirs).max())
