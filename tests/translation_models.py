"""Tiny translation models as their makers publish them: SentencePiece tokenizers, language codes, trained weights."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GenerationConfig,
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
)
from transformers.convert_slow_tokenizer import SentencePieceExtractor

PAIRS = (
    ("The cat sleeps on the wall.", "El gato duerme en el muro."),
    ("The old dog sleeps in the garden.", "El viejo perro duerme en el jardín."),
    ("She reads a long letter.", "Ella lee una carta larga."),
    ("He reads the old book.", "Él lee el viejo libro."),
    ("Where is the bridge?", "¿Dónde está el puente?"),
    ("Where is the old garden?", "¿Dónde está el viejo jardín?"),
    ("The children play in the street.", "Los niños juegan en la calle."),
    ("Nobody plays on the bridge.", "Nadie juega en el puente."),
)
"""English sentences and their translations into Spanish."""
ENGLISH, SPANISH = zip(*PAIRS, strict=True)
UNSEEN = ("The cat plays in the garden.", "He reads a long letter.", "Where is the dog?",
          "Nobody sleeps, nobody reads.", "The old cat is on the old wall in the street.")  # fmt: skip
SHAPE = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "dropout": 0.0,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}  # fmt: skip


def sentencepiece_model(path: Path, texts: tuple[str, ...], kind: str = "unigram") -> list[str]:
    """Train a SentencePiece model; returns its pieces without the special ones."""
    spm = pytest.importorskip("sentencepiece")
    with path.open("wb") as file:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=file, vocab_size=96, model_type=kind, hard_vocab_limit=False,
            minloglevel=2,
        )  # fmt: skip
    model = spm.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(i) for i in range(3, model.get_piece_size())]


def marian(folder: Path, *languages: str) -> tuple[Any, Any]:
    """A tokenizer of source.spm, target.spm and vocab.json, whose last entry is the padding; OPUS-MT's settings."""
    source = sentencepiece_model(folder / "source.spm", ENGLISH)
    target = sentencepiece_model(folder / "target.spm", SPANISH)
    tokens = dict.fromkeys(["</s>", "<unk>", *languages, *source, *target, "<pad>"])
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
        tokenizer = MarianTokenizer(*(str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")))
    pad = len(tokens) - 1
    model = MarianMTModel(
        MarianConfig(vocab_size=len(tokens), pad_token_id=pad, decoder_start_token_id=pad, eos_token_id=0,
                     forced_eos_token_id=0, max_position_embeddings=64, activation_function="swish", **SHAPE)
    )  # fmt: skip
    model.generation_config = GenerationConfig(
        bad_words_ids=[[pad]], renormalize_logits=True, num_beams=6, forced_eos_token_id=0, decoder_start_token_id=pad,
        pad_token_id=pad, eos_token_id=0, max_length=64,
    )  # fmt: skip
    return tokenizer, model


def m2m100(folder: Path, *, listed: bool = True) -> tuple[Any, Any]:
    """A tokenizer of vocab.json and sentencepiece.bpe.model, with the hundred languages behind it."""
    pieces = sentencepiece_model(folder / "sentencepiece.bpe.model", ENGLISH + SPANISH, "bpe")
    from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES  # needs sentencepiece

    tokens = ["<s>", "<pad>", "</s>", "<unk>", *pieces]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    languages = FAIRSEQ_LANGUAGE_CODES["m2m100"]
    tokenizer = M2M100Tokenizer(
        str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"), model_max_length=1024,
        additional_special_tokens=[f"__{code}__" for code in languages] if listed else [],
    )  # fmt: skip
    return tokenizer, _m2m_model(len(tokens) + len(languages) + 8, early_stopping=True, num_beams=5)


def nllb(folder: Path) -> tuple[Any, Any]:
    """A tokenizer of sentencepiece.bpe.model, with NLLB's codes, such as spa_Latn, behind it."""
    sentencepiece_model(folder / "sentencepiece.bpe.model", ENGLISH + SPANISH, "bpe")
    extracted = SentencePieceExtractor(str(folder / "sentencepiece.bpe.model")).extract(None)
    tokens = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *extracted["vocab"]])
    tokenizer = NllbTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=extracted["merges"])
    return tokenizer, _m2m_model(len(tokenizer))


def _m2m_model(size: int, **generation: Any) -> Any:
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    config = M2M100Config(vocab_size=size, max_position_embeddings=64, scale_embedding=True, activation_function="relu",
                          **ids, **SHAPE)  # fmt: skip
    model = M2M100ForConditionalGeneration(config)
    model.generation_config = GenerationConfig(max_length=200, **ids, **generation)
    return model


def train(
    tokenizer: Any, model: Any, *, prefix: str = "", codes: tuple[str, str] | None = None, forced: str = ""
) -> None:
    """Teach the model the eight sentences; `forced` is the token that its translations begin with."""
    if codes:
        tokenizer.src_lang, tokenizer.tgt_lang = codes
    read = tokenizer([prefix + text for text in ENGLISH], padding=True, return_tensors="pt")
    plain = tokenizer(text_target=list(SPANISH), add_special_tokens=False).input_ids
    start = [tokenizer.convert_tokens_to_ids(forced)] if forced else []
    rows = [[*start, *ids, tokenizer.eos_token_id] for ids in plain]
    longest = max(map(len, rows))
    labels = torch.tensor([row + [-100] * (longest - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    loss = torch.tensor(1.0)
    while loss > 0.02:
        optimizer.zero_grad()
        loss = model(input_ids=read.input_ids, attention_mask=read.attention_mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        with torch.no_grad():  # Marian's start is its padding, whose vector stays zero
            model.get_input_embeddings().weight[model.config.pad_token_id].zero_()
    model.eval()


def published(folder: Path, make: Callable[..., tuple[Any, Any]], *languages: str, **training: Any) -> str:
    """Make, train and save a model as it would be published; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    tokenizer, model = make(folder, *languages)
    train(tokenizer, model, **training)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return str(folder)
