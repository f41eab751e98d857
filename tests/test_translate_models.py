"""Translation models of transformers: each way to write languages, long lines, languages that a model lacks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    NllbTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from conftest import SENTENCES, CliResult
from xstilts.errors import UserError
from xstilts.translate.engine import EngineSpec
from xstilts.translate.hf import HfEngine

WORDS = sorted({word for sentence in SENTENCES[:4] for word in sentence.split()})


def words_tokenizer(*languages: str) -> Any:
    """A tokenizer with a token a word, and one for each language."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", *languages, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=32
    )


SMALL = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
         "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}  # fmt: skip


def marian(*languages: str) -> tuple[Any, Any]:
    tokenizer = words_tokenizer(*languages)
    config = MarianConfig(vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
                          max_position_embeddings=32, forced_eos_token_id=1, **SMALL)  # fmt: skip
    return tokenizer, MarianMTModel(config)


def madlad() -> tuple[Any, Any]:
    tokenizer = words_tokenizer("<2es>", "<2sw>")
    config = T5Config(vocab_size=len(tokenizer), d_model=16, num_layers=1, num_heads=2, d_kv=8, d_ff=16,
                      pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)  # fmt: skip
    return tokenizer, T5ForConditionalGeneration(config)


def nllb() -> tuple[Any, Any]:
    letters = sorted({"▁", *"".join(WORDS)})
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters])}
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=[])
    config = M2M100Config(vocab_size=len(tokenizer), max_position_embeddings=64, decoder_start_token_id=2,
                          pad_token_id=1, eos_token_id=2, bos_token_id=0, **SMALL)  # fmt: skip
    return tokenizer, M2M100ForConditionalGeneration(config)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[tuple[Any, Any]], str]:
    """Save a tokenizer and a model with random weights; returns the folder."""

    def save(made: tuple[Any, Any]) -> str:
        folder = tmp_path / f"{type(made[1]).__name__}-{len(list(tmp_path.iterdir()))}"
        for part in made:
            part.save_pretrained(folder)
        return str(folder)

    torch.manual_seed(7)
    return save


def test_marian_for_one_pair_translates_as_its_own_generate(saved: Callable[[tuple[Any, Any]], str]) -> None:
    made = marian()
    engine = HfEngine(saved(made), "en", "es")
    tokenizer, model = made
    ids = tokenizer([SENTENCES[0]], return_tensors="pt").input_ids
    own = model.eval().generate(
        ids, num_beams=4, max_new_tokens=31, max_length=None, early_stopping=True, forced_eos_token_id=None
    )
    (line,) = engine.translate([SENTENCES[0]])
    assert line.text and line.text == tokenizer.decode(own[0], skip_special_tokens=True)
    assert "Marian" in engine.identity["model"] and len(engine.identity["version"]) > 12


def test_a_padded_batch_gives_the_translations_of_single_lines(saved: Callable[[tuple[Any, Any]], str]) -> None:
    engine = HfEngine(saved(nllb()), "en", "sw")
    lines = list(SENTENCES[:3])
    assert engine.translate(lines) == [line for text in lines for line in engine.translate([text])]


@pytest.mark.parametrize("make", [marian, nllb])
def test_a_translation_that_does_not_end_counts_as_cut(
    make: Callable[[], tuple[Any, Any]], saved: Callable[[tuple[Any, Any]], str]
) -> None:
    """Marian's settings force an end upon it, and NLLB starts each with the token that ends it."""
    engine = HfEngine(saved(make()), "en", "es")
    assert [line.cut for line in engine.translate(SENTENCES[:2])] == [True, True]


def test_nllb_begins_a_translation_with_its_language(saved: Callable[[tuple[Any, Any]], str]) -> None:
    folder = saved(nllb())
    swahili, chinese = HfEngine(folder, "en", "sw"), HfEngine(folder, "en", "zh")
    ids = swahili.tokenizer.convert_tokens_to_ids(["swh_Latn", "zho_Hans"])
    assert [swahili.forced, chinese.forced] == ids
    assert swahili.source_code == "eng_Latn"


def test_engines_for_two_source_languages_share_a_model_and_keep_their_languages(
    saved: Callable[[tuple[Any, Any]], str],
) -> None:
    folder = saved(nllb())
    german, swahili = HfEngine(folder, "de", "en"), HfEngine(folder, "sw", "en")
    assert german.tokenizer is swahili.tokenizer
    for engine, code in ((german, "deu_Latn"), (swahili, "swh_Latn"), (german, "deu_Latn")):
        engine.translate(SENTENCES[4:5])
        assert engine.tokenizer.src_lang == code


def test_madlad_and_marian_for_several_languages_read_the_language_before_the_text(
    saved: Callable[[tuple[Any, Any]], str],
) -> None:
    assert HfEngine(saved(madlad()), "en", "sw").prefix == "<2sw> "
    assert HfEngine(saved(marian(">>spa<<", ">>fra<<")), "en", "es").prefix == ">>spa<< "


def test_a_model_without_the_language_names_the_nearest(saved: Callable[[tuple[Any, Any]], str]) -> None:
    with pytest.raises(UserError, match=r"does not know the language 'fr' \(known: es, sw\)"):
        HfEngine(saved(madlad()), "en", "fr")
    with pytest.raises(UserError, match="does not know the language 'xx'"):
        HfEngine(saved(nllb()), "xx", "en")


def test_a_model_named_after_another_pair_is_refused(saved: Callable[[tuple[Any, Any]], str], tmp_path: Path) -> None:
    folder = Path(saved(marian())).rename(tmp_path / "opus-mt-en-de")
    with pytest.raises(UserError, match="translates en to de, not en to es"):
        HfEngine(str(folder), "en", "es")


def test_texts_go_through_a_model_sentence_by_sentence(
    saved: Callable[[tuple[Any, Any]], str], tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    pytest.importorskip("icu4py")
    (tmp_path / "dev.tsv").write_text(f"{SENTENCES[0]} {SENTENCES[1]}\tgood\n{SENTENCES[1]}\tbad\n", encoding="utf-8")
    task = tmp_path / "mine.yaml"
    task.write_text("reviews: {format: classify, texts: [text], labels: [good, bad], data: {dev: dev.tsv}}\n")
    folder = saved(marian())
    arguments = ("--to", "es", "--engine", "hf", "--model", folder, "--out", tmp_path / "out", "--use", task)
    result = xstilts("translate", "reviews", *arguments)
    assert "dev-es.jsonl: 2 rows, 0 left out; 3 lines" in result.out, result.err
    first, second = (line.text for line in HfEngine(folder, "en", "es").translate(list(SENTENCES[:2])))
    written = (tmp_path / "out/reviews/dev-es.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in written] == [f"{first} {second}", second]


def test_a_model_for_one_pair_does_not_translate_to_two_languages(
    saved: Callable[[tuple[Any, Any]], str], tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    arguments = ("--engine", "hf", "--model", saved(marian()), "--out", tmp_path / "out")
    result = xstilts("translate", "play-nli", "--to", "de,es", *arguments)
    assert (result.code, "translates one pair of languages only" in result.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_translation_model_takes_no_prompt(saved: Callable[[tuple[Any, Any]], str], tmp_path: Path) -> None:
    engine = EngineSpec("hf", model=saved(marian()), prompt="Say {text} in {to}.")
    with pytest.raises(UserError, match="is no chat model, so it takes no --prompt"):
        engine.open("en", "es", tmp_path)


def test_a_folder_without_a_translation_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded as a translation model"):
        HfEngine(str(tmp_path), "en", "es")


def test_a_damaged_sentencepiece_file(tmp_path: Path) -> None:
    """As an interrupted download leaves it."""
    pytest.importorskip("sentencepiece")
    (tmp_path / "config.json").write_text('{"model_type": "marian"}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "MarianTokenizer"}')
    (tmp_path / "vocab.json").write_text('{"</s>": 0, "<unk>": 1, "<pad>": 2}')
    for name in ("source.spm", "target.spm"):
        (tmp_path / name).write_bytes(b"half a file")
    with pytest.raises(UserError, match=r"cannot be loaded as a translation model: damaged tokenizer: .*source\.spm"):
        HfEngine(str(tmp_path), "en", "es")
