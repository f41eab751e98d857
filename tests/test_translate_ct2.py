"""Translation models as they are published, through transformers and through CTranslate2: both give the same lines."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from conftest import CliResult
from test_translate_models import madlad, words_tokenizer
from translation_models import ENGLISH, UNSEEN, m2m100, marian, nllb, published
from xstilts.errors import UserError
from xstilts.translate.engine import EngineSpec
from xstilts.translate.hf import HfEngine

pytest.importorskip("ctranslate2")

from xstilts.translate.ct2 import Ct2Engine

MODELS: dict[str, Callable[[Path], str]] = {
    "opus-mt-en-es": lambda folder: published(folder, marian),
    "opus-mt-en-ROMANCE": lambda folder: published(
        folder, lambda folder: marian(folder, ">>fra<<", ">>spa<<"), prefix=">>spa<< "
    ),
    "m2m100": lambda folder: published(folder, m2m100, codes=("en", "es"), forced="__es__"),
    "nllb": lambda folder: published(folder, nllb, codes=("eng_Latn", "spa_Latn"), forced="spa_Latn"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a published model; each is made once."""
    root = tmp_path_factory.mktemp("published")

    def make(name: str) -> str:
        return str(root / name) if (root / name / "config.json").is_file() else MODELS[name](root / name)

    return make


@pytest.mark.parametrize("name", MODELS)
def test_both_engines_find_the_same_translations(name: str, model: Callable[[str], str], tmp_path: Path) -> None:
    folder = model(name)
    by_generate, by_ct2 = HfEngine(folder, "en", "es"), Ct2Engine(folder, tmp_path, "en", "es")
    lines = [*ENGLISH, *UNSEEN]
    assert by_ct2.translate(lines) == by_generate.translate(lines)
    assert by_ct2.translate(lines) == [line for text in lines for line in by_ct2.translate([text])]
    texts = " ".join(text for text, cut in by_ct2.translate(ENGLISH) if not cut)
    assert "el puente" in texts and not re.search("__|_Latn|>>|<", texts)  # words only, no token of a language


@pytest.mark.parametrize("name", ["opus-mt-en-es", "nllb"])
def test_a_line_that_is_too_long_and_a_translation_that_does_not_end_count_as_cut(
    name: str, model: Callable[[str], str], tmp_path: Path
) -> None:
    """OPUS-MT's settings force an end upon a translation, and NLLB starts one with the token that ends it."""
    folder = model(name)
    by_generate, by_ct2 = HfEngine(folder, "en", "es"), Ct2Engine(folder, tmp_path, "en", "es")
    long = " ".join(ENGLISH * 5)
    assert [line.cut for line in by_generate.translate([ENGLISH[0], long])] == [False, True]
    assert by_ct2.translate([ENGLISH[0], long]) == by_generate.translate([ENGLISH[0], long])
    sources = by_generate.tokenizer(list(ENGLISH[:2])).input_ids
    for engine in (by_generate, by_ct2):
        assert [by_generate.tokenizer.eos_token_id in ids for ids in engine.search(sources, 4)] == [False, False]


def copied(folder: str, to: Path, **generation: Any) -> str:
    """A copy of a model with other settings for writing."""
    shutil.copytree(folder, to)
    path = to / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | generation), encoding="utf-8")
    return str(to)


def test_a_models_own_penalties_count_in_both_engines(model: Callable[[str], str], tmp_path: Path) -> None:
    original = model("opus-mt-en-es")
    folder = copied(original, tmp_path / "model", length_penalty=0.5, no_repeat_ngram_size=1)  # no piece twice
    plain = Ct2Engine(original, tmp_path, "en", "es").translate([*ENGLISH, *UNSEEN])
    by_ct2 = Ct2Engine(folder, tmp_path, "en", "es").translate([*ENGLISH, *UNSEEN])
    assert plain != by_ct2 == HfEngine(folder, "en", "es").translate([*ENGLISH, *UNSEEN])
    forced = copied(original, tmp_path / "forced", forced_bos_token_id=5)
    with pytest.raises(UserError, match=r"begins each translation with a token of its own \(use --engine hf\)"):
        Ct2Engine(forced, tmp_path, "en", "es")


def test_a_model_is_converted_once(model: Callable[[str], str], tmp_path: Path) -> None:
    folder = model("m2m100")
    first = Ct2Engine(folder, tmp_path / "out/.models", "en", "es")
    (converted,) = (path for path in (tmp_path / "out/.models").iterdir())
    written = (converted / "model.bin").stat().st_mtime_ns
    again = Ct2Engine(folder, tmp_path / "out/.models", "en", "de")  # another language, the same model
    assert (converted / "model.bin").stat().st_mtime_ns == written
    assert (first.language, again.language) == ("__es__", "__de__")
    assert first.identity["version"] == again.identity["version"] and "ctranslate2" in first.identity["version"]


def test_a_task_is_translated_through_the_command_line(
    model: Callable[[str], str], tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    pytest.importorskip("icu4py")
    (tmp_path / "dev.tsv").write_text(f"{ENGLISH[0]} {ENGLISH[4]}\tgood\n{UNSEEN[0]}\tbad\n", encoding="utf-8")
    task = tmp_path / "mine.yaml"
    task.write_text("reviews: {format: classify, texts: [text], labels: [good, bad], data: {dev: dev.tsv}}\n")
    written = []
    for engine in ("hf", "ct2"):
        arguments = ("--engine", engine, "--model", model("opus-mt-en-es"), "--out", tmp_path / engine, "--use", task)
        result = xstilts("translate", "reviews", "--to", "es", *arguments)
        assert "dev-es.jsonl: 2 rows, 0 left out; 3 lines" in result.out, result.err
        written.append((tmp_path / engine / "reviews/dev-es.jsonl").read_text(encoding="utf-8"))
    assert written[0] == written[1]
    wrong = xstilts("translate", "reviews", "--to", "de", *arguments)
    assert (wrong.code, "translates en to es, not en to de" in wrong.err) == (2, True)


def test_a_converted_folder_is_used_as_it_is(model: Callable[[str], str], tmp_path: Path) -> None:
    """Its own tokenizer files must lie in it; the precision is that of its conversion."""
    from ctranslate2.converters import TransformersConverter

    own, folder = tmp_path / "own", Path(model("nllb"))
    TransformersConverter(str(folder)).convert(str(own), quantization="int8")
    with pytest.raises(UserError, match="is a converted model without tokenizer files \\(copy them"):
        Ct2Engine(str(own), tmp_path, "en", "es")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (own / name).write_bytes((folder / name).read_bytes())
    engine = Ct2Engine(str(own), tmp_path, "en", "es")
    assert not list(tmp_path.glob("nllb-*"))
    with pytest.raises(UserError, match=r"is a model converted by CTranslate2 \(use --engine ct2\)"):
        HfEngine(str(own), "en", "es")
    assert EngineSpec("ct2", model=str(folder)).both_ways(engine) == {"model": str(folder)}
    assert EngineSpec("ct2", model=str(own)).both_ways(engine) == {}  # answers go back by hf, which cannot read it
    assert engine.language == "spa_Latn" and engine.translate(ENGLISH[:1])[0].text
    with pytest.raises(UserError, match="does not know the language 'xx'"):
        Ct2Engine(str(own), tmp_path, "en", "xx")


def saved_madlad(folder: Path, *, scales: bool) -> str:
    """T5's version 1.1, MADLAD's, does not scale its last states; its makers' file says so by this word."""
    torch.manual_seed(5)
    for part in madlad():
        part.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["tie_word_embeddings"] = scales
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("scales", [True, False])
def test_madlad_is_exact_with_and_without_the_scale_of_its_outputs(scales: bool, tmp_path: Path) -> None:
    folder, lines = saved_madlad(tmp_path / "model", scales=scales), ["The cat sleeps", "She read the letter"]
    by_ct2 = Ct2Engine(folder, tmp_path, "en", "sw")
    assert by_ct2.translate(lines) == HfEngine(folder, "en", "sw").translate(lines)


def test_madlad_converted_with_a_scale_is_refused(tmp_path: Path) -> None:
    """CTranslate2's converter reads a word that transformers 5 sets for all T5 models."""
    from ctranslate2.converters import TransformersConverter

    folder = saved_madlad(tmp_path / "model", scales=False)
    TransformersConverter(folder).convert(str(tmp_path / "own"))
    words_tokenizer("<2es>", "<2sw>").save_pretrained(tmp_path / "own")
    with pytest.raises(UserError, match="was converted with a factor that MADLAD lacks"):
        Ct2Engine(str(tmp_path / "own"), tmp_path, "en", "sw")


def test_t5_in_an_older_transformers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved_madlad(tmp_path / "model", scales=False)
    monkeypatch.setattr("xstilts.translate.model_engine.transformers.__version__", "5.15.1")
    with pytest.raises(UserError, match=r"transformers 5\.15\.1 may translate wrongly with it"):
        HfEngine(folder, "en", "sw")
    with pytest.raises(UserError, match=r"transformers 5\.15\.1 may translate wrongly with it"):
        Ct2Engine(folder, tmp_path, "en", "sw")
    assert not list(tmp_path.glob("model-*"))


def test_a_conversion_that_changes_probabilities_is_refused(model: Callable[[str], str], tmp_path: Path) -> None:
    """CTranslate2 starts Marian from a vector of zeros, which training may have moved."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(model("opus-mt-en-es"), tmp_path / "moved")
    weights = load_file(folder / "model.safetensors")
    weights["model.shared.weight"][-1] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="has other probabilities after the conversion"):
        Ct2Engine(str(folder), tmp_path / "cache", "en", "es")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_an_architecture_that_ctranslate2_lacks(tmp_path: Path) -> None:
    config = transformers.ProphetNetConfig(vocab_size=40, hidden_size=16, num_encoder_layers=1, num_decoder_layers=1,
                                           num_encoder_attention_heads=2, num_decoder_attention_heads=2,
                                           encoder_ffn_dim=16, decoder_ffn_dim=16)  # fmt: skip
    made: tuple[Any, ...] = words_tokenizer(), transformers.ProphetNetForConditionalGeneration(config)
    for part in made:
        part.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"cannot be converted: No conversion .* \(use --engine hf\)"):
        Ct2Engine(str(tmp_path / "model"), tmp_path, "en", "es")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(UserError, match=r'needs the package ctranslate2 \(pip install "xstilts\[mt\]"\)'):
        Ct2Engine(str(tmp_path), tmp_path, "en", "es")
