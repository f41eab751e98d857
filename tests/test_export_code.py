"""`export --to hf-code` writes a folder with code of its own, which transformers runs only if it is allowed to."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import SENTENCES, CliResult
from test_export import ALL, FORMATS, model_of
from xstilts import UserError, load
from xstilts.predict.export import export

KINDS = {
    "text": "SequenceClassification", "choose": "MultipleChoice", "tag": "TokenClassification",
    "span": "QuestionAnswering",
}  # fmt: skip
FAST = {("ModernBert", "tag"), ("MT5", "text"), ("XLM", "span")}
CASES = [
    pytest.param(family, form, marks=() if (family, form) in FAST else pytest.mark.slow)
    for family in ALL for form in KINDS
]  # fmt: skip


@pytest.mark.parametrize(("family", "form"), CASES)
def test_the_code_has_the_models_scores_in_every_family_and_format(
    family: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_of(family, form, tmp_path, monkeypatch, "jiant")
    if family == "XLM":
        with pytest.raises(UserError, match="the encoder reads each text's language"):
            export(folder, tmp_path / "out", "hf-code")
        return
    found = export(folder, tmp_path / "out", "hf-code")
    assert (found.reader, found.texts) == ("XStiltsModel", 6) and found.difference < 1e-5
    config = json.loads((tmp_path / "out/config.json").read_text(encoding="utf-8"))
    names = {"AutoConfig": "XStiltsConfig", f"AutoModelFor{KINDS[form]}": "XStiltsModel"}
    assert config["auto_map"] == {auto: f"modeling_xstilts.{name}" for auto, name in names.items()}
    labels = FORMATS[form].labels if form in ("text", "tag") else None  # type: ignore[attr-defined]
    assert config["model_type"] == "xstilts" and [*config.get("id2label", {}).values()] == [*(labels or ())]
    assert str(tmp_path) not in json.dumps(config)


FRESH = """\
import json, sys
from transformers import AutoModelForSequenceClassification, pipeline
folder, texts = sys.argv[1], json.load(sys.stdin)
try:
    AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code" in str(error), error
else:
    raise AssertionError("loaded without permission")
predict = pipeline("text-classification", model=folder, top_k=None, device="cpu", trust_remote_code=True)
found = predict(texts, truncation=True, batch_size=4)
assert "xstilts" not in sys.modules
print(json.dumps([{one["label"]: one["score"] for one in row} for row in found]))
"""


def test_a_fresh_process_needs_permission_and_predicts_what_predict_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xstilts: Callable[..., CliResult]
) -> None:
    folder = model_of("XLMRoberta", "text", tmp_path, monkeypatch, "jiant")
    result = xstilts("export", folder, tmp_path / "out", "--to", "hf-code", "--card")
    assert result.code == 0 and "out: XStiltsModel, within " in result.out, result.err
    assert (result.out.count("\n"), result.err) == (2, "")
    assert 'model="out", trust_remote_code=True' in (tmp_path / "out/README.md").read_text(encoding="utf-8")
    command = [sys.executable, "-P", "-c", FRESH, str(tmp_path / "out")]
    env = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, input=json.dumps(SENTENCES), capture_output=True, encoding="utf-8", cwd=tmp_path, env=env
    )
    assert done.returncode == 0, done.stderr
    for own, theirs in zip(load(folder).predict(SENTENCES), json.loads(done.stdout), strict=True):
        assert theirs == pytest.approx(own["probabilities"], abs=6e-5)


def test_a_head_of_transformers_needs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="the head is that of transformers' own class"):
        export(model_of("Bert", "text", tmp_path, monkeypatch), tmp_path / "out", "hf-code")
