"""New encoders: random weights of a given shape, with a tokenizer that is trained or given."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from xstilts.compute import device
from xstilts.errors import UserError, first_line
from xstilts.model import pretrained_tokenizer
from xstilts.model.encoder import Encoder, quiet
from xstilts.model.pretrained_tokenizer import wrapped
from xstilts.model.shape import NewEncoder
from xstilts.model.tokenizer import Tokenizer

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""In XLM-R's order."""
NAMED = {
    "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>",
    "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>",
}  # fmt: skip
"""The role of each."""
INPUTS = {"model_input_names": ["input_ids", "attention_mask"]}
"""A new encoder has one type of token."""


def create(shape: NewEncoder, texts: Iterable[str] = (), tokenizer: Any = None) -> Encoder:
    """An encoder of XLM-R's kind with random weights and without dropout.

    Args:
        shape: layers, hidden size, heads, vocabulary, longest sequence, seed.
        texts: the tokenizer's training text, if none is given.
        tokenizer: one that `given` returns.
    """
    from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

    quiet()
    if tokenizer is None:
        tokenizer = wrapped(train_tokenizer(texts, shape.vocabulary, shape.tokenizer), NAMED, **INPUTS)
    tokenizer.model_max_length = shape.max_length
    config = XLMRobertaConfig(
        vocab_size=max(tokenizer.get_vocab().values()) + 1,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        max_position_embeddings=shape.max_length + tokenizer.pad_token_id + 1,  # positions count from there
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    device.seed(shape.seed)
    lm = XLMRobertaForMaskedLM(config)
    return Encoder(lm.roberta, tokenizer, lm=lm)


def given(name: str) -> Any:
    """The tokenizer of a folder or of the Hub (`id` or `id@revision`), for a new encoder.

    Raises:
        UserError: it cannot be loaded, is not a fast one, lacks a special token, or puts none around a text.
    """
    quiet()
    place, _, revision = (name, "", "") if Path(name).exists() else name.partition("@")
    try:
        tokenizer = pretrained_tokenizer.load(place, revision=revision)
        backend: tokenizers.Tokenizer = tokenizer.backend_tokenizer
    except UserError:
        raise
    except Exception as error:  # transformers and tokenizers raise all kinds for a broken file
        if "trust_remote_code" in str(error):
            raise UserError("the tokenizer needs its own code, which is never run", where=name) from error
        hint = "are its tokenizer.json and tokenizer_config.json whole?" if Path(name).exists() else "not a folder here"
        raise UserError(f"cannot be loaded as a fast tokenizer: {first_line(error)}", where=name, hint=hint) from error
    first, last = tokenizer.cls_token or tokenizer.bos_token, tokenizer.sep_token or tokenizer.eos_token
    needed = {"mask": tokenizer.mask_token, "pad": tokenizer.pad_token, "cls or bos": first, "sep or eos": last}
    lacking = [what for what, token in needed.items() if token is None]
    if lacking:
        hint = "name it in its tokenizer_config.json; a new encoder has a row for each of its pieces"
        raise UserError(f"the tokenizer has no {' and no '.join(lacking)} token", where=name, hint=hint)
    if Tokenizer(backend, max_length=16, unk_id=0).single([])[1] == 0:
        raise UserError("the tokenizer puts no token before a text", where=name,
                        hint="its tokenizer.json needs a post_processor that does")  # fmt: skip
    vocabulary = tokenizer.get_vocab()
    if max(vocabulary.values()) > 2 * len(vocabulary) + 1000:  # each id up to there would get a row
        what = f"the tokenizer has {len(vocabulary):,} pieces, but ids up to {max(vocabulary.values()):,}"
        raise UserError(what, where=name, hint="renumber its pieces")
    if tokenizer.mask_token == tokenizer.pad_token:
        raise UserError("the tokenizer has one token for mask and pad", where=name, hint="name two")
    named = {"bos_token": tokenizer.bos_token or first, "cls_token": first, "eos_token": tokenizer.eos_token or last,
             "sep_token": last, "pad_token": tokenizer.pad_token, "unk_token": tokenizer.unk_token,
             "mask_token": tokenizer.mask_token}  # fmt: skip
    extra = [token for token in tokenizer.all_special_tokens if token not in named.values()]
    return wrapped(backend, named, extra, **INPUTS)


def train_tokenizer(texts: Iterable[str], vocabulary: int, kind: str = "bpe") -> tokenizers.Tokenizer:
    """A tokenizer with XLM-R's special tokens around one text and around a pair.

    Args:
        texts: the training text, one at a time.
        vocabulary: the most pieces, special tokens included.
        kind: byte-pair pieces (`bpe`), or whole `words`, cut where the script changes. (Training
            XLM-R's unigram pieces is not reproducible.)
    """
    special = list(SPECIAL)
    trainer: trainers.Trainer
    if kind == "words":
        tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Whitespace(), pre_tokenizers.UnicodeScripts()]
        )
        trainer = trainers.WordLevelTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    else:
        tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer
