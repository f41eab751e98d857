"""`export --to onnx` writes a graph with the model's scores, for any head, which needs no torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest

from conftest import SENTENCES, CliResult
from test_encoders import Family
from test_export import ALL, FORMATS, model_of
from xstilts import load
from xstilts.predict.export import export

SHAPES = {
    "text": {"logits": ["batch", 3]}, "pair": {"logits": ["batch", 3]}, "choose": {"logits": ["batch", "choices"]},
    "tag": {"logits": ["batch", "length", 3]},
    "span": {"start_logits": ["batch", "length"], "end_logits": ["batch", "length"]},
    "vectors": {"sentence_embedding": ["batch", 16]},
}  # fmt: skip
HEADS = {"pair": "jiant"}
"""Of classifiers; that of single texts is transformers' own."""
CASES = [
    pytest.param(family, form, marks=() if (family, form) == ("XLMRoberta", "choose") else pytest.mark.slow)
    for family in ALL for form in SHAPES
]  # fmt: skip
"""An export takes five seconds; all of them, six minutes."""


@pytest.mark.parametrize(("family", "form"), CASES)
def test_onnxruntime_has_the_models_scores_in_every_family_and_format(
    family: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_of(family, "text" if form == "vectors" else form, tmp_path, monkeypatch, HEADS.get(form, "stock"))
    found = export(folder / "encoder" if form == "vectors" else folder, tmp_path / "out", "onnx")
    assert (found.reader, found.texts) == ("model.onnx", 6) and found.difference < 1e-5
    graph = onnx.load(str(tmp_path / "out/model.onnx"), load_external_data=False).graph
    axes = ["batch", "choices", "length"] if form == "choose" else ["batch", "length"]
    types = ["token_type_ids"] if family in ("Bert", "RemBert", "Electra", "Xmod") else []
    names = ["input_ids", "attention_mask", *types, *(["langs"] if family == "XLM" else [])]
    assert shapes(graph.input) == dict.fromkeys(names, axes) and shapes(graph.output) == SHAPES[form]
    config = json.loads((tmp_path / "out/config.json").read_text(encoding="utf-8"))
    words = json.loads((tmp_path / "out/tokenizer_config.json").read_text(encoding="utf-8"))
    labels = FORMATS[form].labels if form in ("text", "pair", "tag") else None  # type: ignore[attr-defined]
    assert [*config.get("id2label", {}).values()] == [*(labels or ())]
    assert form == "vectors" or words["model_max_length"] == 48
    assert str(tmp_path) not in json.dumps([config, words])


def shapes(values: Any) -> dict[str, list[str | int]]:
    """The axes of each input or output of a graph."""
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values
    }


RUNTIME = """\
import json, sys
import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer
folder, pairs = sys.argv[1], json.load(sys.stdin)
labels = json.load(open(folder + "/config.json"))["id2label"]
tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
tokenizer.enable_padding(pad_id=1, pad_token="<pad>")
session = InferenceSession(folder + "/model.onnx")
encoded = tokenizer.encode_batch(pairs)
arrays = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
inputs = {name: np.array([getattr(one, words) for one in encoded]) for name, words in arrays.items()}
(scores,) = session.run(["logits"], inputs)
shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
assert not {name.split(".")[0] for name in sys.modules} & {"xstilts", "torch", "transformers"}
print(json.dumps([dict(zip(labels.values(), map(float, row))) for row in shares]))
"""


def test_a_process_without_torch_predicts_what_predict_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xstilts: Callable[..., CliResult]
) -> None:
    """Jiant's head, which no class of transformers has; twenty pairs of other lengths than any in the export."""
    folder = model_of("Bert", "pair", tmp_path, monkeypatch, "jiant")
    result = xstilts("export", folder, tmp_path / "out", "--to", "onnx")
    assert result.code == 0 and "out: model.onnx, within " in result.out, result.err
    pairs = [*pairwise(SENTENCES)]
    command = [sys.executable, "-c", RUNTIME, str(tmp_path / "out")]
    done = subprocess.run(command, input=json.dumps(pairs), capture_output=True, encoding="utf-8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for own, theirs in zip(load(folder).predict(pairs), json.loads(done.stdout), strict=True):
        assert theirs == pytest.approx(own["probabilities"], abs=6e-5)


def test_an_encoder_that_torch_cannot_trace_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xstilts: Callable[..., CliResult]
) -> None:
    """Longformer reshapes its hidden states by numbers that depend on the length."""
    shape = {"attention_window": [4, 4, 4], "max_position_embeddings": 70}
    monkeypatch.setitem(ALL, "Longformer", Family(shape, around="roberta"))
    folder = model_of("Longformer", "text", tmp_path, monkeypatch, "jiant")
    result = xstilts("export", folder, tmp_path / "out", "--to", "onnx")
    assert (result.code, result.out) == (2, "") and not [*tmp_path.glob("*out*")]
    assert result.err.startswith("error: torch cannot export a longformer encoder to ONNX: ")
    assert result.err.count("\n") == 1, result.err


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xstilts: Callable[..., CliResult]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = xstilts("export", tmp_path / "none", tmp_path / "out", "--to", "onnx")
    message = f'error: --to onnx: needs the package {package} (pip install "xstilts[onnx]")\n'
    assert (result.code, result.out, result.err) == (2, "", message)
