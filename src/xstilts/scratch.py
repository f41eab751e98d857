"""New encoders: random weights of a given shape, and a tokenizer trained on given text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from xstilts import device
from xstilts.encoder import Encoder, quiet
from xstilts.recipe import NewEncoder

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""In XLM-R's order."""


def create(shape: NewEncoder, texts: Iterable[str]) -> Encoder:
    """An encoder of XLM-R's kind with random weights, without dropout, and a tokenizer of its own.

    Args:
        shape: layers, hidden size, heads, vocabulary, longest sequence, seed.
        texts: what the tokenizer is trained on.
    """
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaForMaskedLM

    quiet()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=train_tokenizer(texts, shape.vocabulary, shape.tokenizer),
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=shape.max_length,
        model_input_names=["input_ids", "attention_mask"],
    )
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        max_position_embeddings=shape.max_length + 2,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-5,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    device.seed(shape.seed)
    lm = XLMRobertaForMaskedLM(config)
    return Encoder(lm.roberta, tokenizer, lm=lm)


def train_tokenizer(texts: Iterable[str], vocabulary: int, kind: Literal["bpe", "words"] = "bpe") -> Tokenizer:
    """A tokenizer with XLM-R's special tokens around one text and around a pair.

    Args:
        texts: what it is trained on.
        vocabulary: pieces at most, special tokens included.
        kind: byte-pair pieces, or whole `words`, cut where the script changes. (Unigram pieces, as XLM-R has, cannot be
            trained to the same result twice.)
    """
    special = list(SPECIAL)
    trainer: trainers.Trainer
    if kind == "words":
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Whitespace(), pre_tokenizers.UnicodeScripts()]
        )
        trainer = trainers.WordLevelTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer
