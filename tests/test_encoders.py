"""Nine encoder families run in all six formats, from folders like the Hub's; docs/encoders.md lists them."""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import transformers
from tokenizers import processors
from torch import Tensor, nn

from conftest import SENTENCES, CliResult
from xstilts.formats import Choose, Classify, Mask, Retrieve, Span, Tag
from xstilts.formats.base import Format
from xstilts.formats.choose import Choice
from xstilts.formats.classify import Labelled
from xstilts.formats.retrieve import Entry
from xstilts.formats.span import Question
from xstilts.formats.tag import Tagged
from xstilts.model import evaluate, forward, heads
from xstilts.model.batch import Batch, collate, generator
from xstilts.model.encoder import Encoder, load, quiet
from xstilts.model.features import FeatureSet
from xstilts.model.new_encoder import train_tokenizer
from xstilts.training.batches import TrainTask
from xstilts.training.loop import train
from xstilts.training.settings import TaskSettings, TrainSpec

PAGE = Path(__file__).parents[1] / "docs/encoders.md"
ALIKE = 1e-5
"""How far hidden states and scores may be from those of one sequence at a time, as transformers gives them."""
LENGTHS = (1, 30, 2, 17, 60, 5, 1, 60)
LAYERS = 3


@dataclass(frozen=True)
class Family:
    """A family's own words for a tiny shape, what its folder on the Hub is made with, and what one must know."""

    shape: dict[str, Any] = field(default_factory=dict)
    lm: str = "ForMaskedLM"
    """The class of the checkpoint, after the family's name."""
    around: str = "bert"
    without: tuple[str, ...] = ()
    """Special tokens that its tokenizer does not have."""
    note: str = ""


AROUND = {
    "roberta": ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
    "bert": ("<s> $A </s>", "<s> $A </s> $B </s>"),
    "t5": ("$A </s>", "$A </s> $B </s>"),
}
COMMON = {
    "hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 24,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": 64,
}  # fmt: skip
T5 = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": LAYERS,
    "num_heads": 2,
    "pad_token_id": 0,
    "max_position_embeddings": None,
}
NO_CLS = "no first special token: the sequence head reads the first subword token; the decoder is not used"
FAMILIES = {
    "XLMRoberta": Family({"max_position_embeddings": 66, "type_vocab_size": 1}, around="roberta"),
    "Bert": Family(note="mBERT and all other BERTs"),
    "DistilBert": Family({"dim": 16, "n_layers": LAYERS, "n_heads": 2, "hidden_dim": 24}),
    "ModernBert": Family(
        {"local_attention": 6, "global_attn_every_n_layers": 2, "cls_token_id": 0, "sep_token_id": 2},
        note="mmBERT",
    ),
    "EuroBert": Family(
        {"num_key_value_heads": 1, "mask_token_id": 4},
        without=("unk_token",),
        note="transformers has the class; `trust_remote_code` is not needed",
    ),
    "DebertaV2": Family(
        {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "share_att_key": True,
         "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0},
        note="DeBERTa-v3, mDeBERTa-v3; convert a folder that has only spm.model or pickled weights",
    ),
    "RemBert": Family({"input_embedding_size": 8, "output_embedding_size": 12}),
    "MT5": Family(T5, "ForConditionalGeneration", "t5", ("mask_token", "cls_token", "bos_token"), NO_CLS),
    "UMT5": Family(T5, "ForConditionalGeneration", "t5", ("mask_token", "cls_token", "bos_token"), NO_CLS),
    "XLM": Family(
        {"emb_dim": 16, "n_layers": LAYERS, "n_heads": 2, "n_langs": 3, "lang2id": {"de": 0, "en": 1, "fr": 2},
         "lang_id": 1},
        "WithLMHeadModel",
        note="its tokenizer has no fast version in transformers; a language without an embedding gets English's",
    ),
}  # fmt: skip


def write(name: str, folder: Path) -> nn.Module:
    """A checkpoint of a family as the Hub has it: random weights, config.json, tokenizer.json."""
    quiet()
    family = FAMILIES[name]
    pieces = train_tokenizer(SENTENCES, 400)
    single, pair = AROUND[family.around]
    special = [("<s>", 0), ("</s>", 2)]
    pieces.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)
    words = {
        "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "unk_token": "<unk>",
        "pad_token": "<s>" if family.shape.get("pad_token_id") == 0 else "<pad>", "mask_token": "<mask>",
    }  # fmt: skip
    words = {word: token for word, token in words.items() if word not in family.without}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=pieces, **words)
    shape = COMMON | {"vocab_size": len(tokenizer)} | family.shape
    config = getattr(transformers, f"{name}Config")(**{key: x for key, x in shape.items() if x is not None})
    torch.manual_seed(0)
    model: nn.Module = getattr(transformers, f"{name}{family.lm}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and parameter.std() < 0.1:  # most families' own are too small for a leak to be seen
                parameter.mul_(3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def batch_of(*lengths: int, language: str = "en") -> Batch:
    ids = torch.randint(5, 300, (sum(lengths),), generator=torch.Generator().manual_seed(1))
    types = torch.cat([(torch.arange(n) > n // 2).long() for n in lengths])
    none = torch.zeros(0, dtype=torch.long)
    rows = torch.arange(len(lengths))
    return Batch(len(lengths), ids, torch.tensor(lengths), types, none, none, rows, rows, language=language)


def alone(model: Any, encoder: Encoder, batch: Batch) -> list[Tensor]:
    """Every hidden state of one sequence at a time, as transformers gives them."""
    rows = []
    sizes = batch.lengths_B.tolist()
    for ids, types in zip(batch.ids_T.split(sizes), batch.types_T.split(sizes), strict=True):
        more = {"token_type_ids": types[None]} if encoder.has_token_types else {}
        if encoder.languages:
            more["langs"] = torch.full_like(ids, encoder.languages[batch.language])[None]
        with torch.inference_mode():
            rows.append(model(input_ids=ids[None], output_hidden_states=True, **more).hidden_states)
    return [torch.cat([row[layer][0] for row in rows]) for layer in range(LAYERS + 1)]


def padded(encoder: Encoder) -> Encoder:
    """The same encoder with padding."""
    other = copy.deepcopy(encoder)
    other.packs = False
    other.base.set_attn_implementation("eager")
    return other


def words_of(text: str) -> tuple[str, ...]:
    return tuple(text.split()) or ("x",)


TASKS: tuple[tuple[Format, list[Any]], ...] = (
    (
        Classify(labels=("0", "1"), texts=("a", "b")),
        [
            Labelled((a, b), str(int(i % 4 > 0)))
            for i, (a, b) in enumerate(zip(SENTENCES, SENTENCES[::-1], strict=True))
        ],
    ),
    (Choose(), [Choice(a, ("so", a, a[::-1]), 0) for a in SENTENCES]),
    (
        Tag(labels=("O", "B-LOC", "I-LOC")),
        [Tagged(words_of(s), tuple(("O", "B-LOC", "I-LOC")[len(w) % 3] for w in words_of(s))) for s in SENTENCES],
    ),
    (Span(), [Question(None, "which?", s, (s[4:9].strip(),), 4 + (s[4] == " ")) for s in SENTENCES]),
    (Retrieve(), [Entry(a, a[::-1], str(i)) for i, a in enumerate(SENTENCES)]),
    (Mask(), list(SENTENCES)),
)
SETTINGS = TrainSpec(
    parts=(), lr=3e-3, steps=8, warmup=0.0, weight_decay=0.0, precision="fp32", eval_every=9, patience=9
)


def learned(encoder: Encoder, part: TrainTask) -> bool:
    """Train a little; whether encoder and head have changed and the loss over all examples is lower."""

    def loss() -> float:
        batch = collate(part.features, range(len(part.features.lengths_F)), part.masking, generator(1))
        part.head.eval()
        with torch.inference_mode():
            return float(part.head.loss(part.head(encoder.eval().hidden(batch), batch), batch))

    modules = [*encoder._blocks(), part.head]
    before, states = loss(), [[p.detach().clone() for p in module.parameters()] for module in modules]
    train(encoder, [part], SETTINGS, seed=1, dev=None, log=lambda _: None)
    for module, state in zip(modules, states, strict=True):
        assert any(not p.equal(q) for p, q in zip(module.parameters(), state, strict=True)), module
    return loss() < before


@dataclass
class Outcome:
    """What was seen of a family."""

    encoder: Encoder
    """As it came from its folder."""
    trained: Encoder
    again: Encoder
    """The trained one, saved and loaded."""
    formats: list[str]
    furthest: float


@cache
def tried(name: str) -> Outcome:
    """A family through everything."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        write(name, folder / "hub")
        encoder = load(str(folder / "hub")).eval()
        reference = type(encoder.base).from_pretrained(folder / "hub", attn_implementation="eager").eval()
        furthest, done = apart(reference, encoder), []
        trained = copy.deepcopy(encoder)
        for form, examples in TASKS:
            masking = trained.masking() if form.head.kind == "vocabulary" else None
            if masking and (trained.vocabulary is None or masking.mask_id is None):
                continue
            torch.manual_seed(0)
            head = heads.build(form.head, trained.config, trained.vocabulary)
            features = FeatureSet.build(form, examples, trained.tokenizer_for(64))
            settings = TaskSettings(task=form.name, weight=1.0, batch=5, max_length=64, epochs=1)
            if form.head.kind != "mean":
                task = TrainTask(settings, head, features, masking)
                assert learned(trained, task), f"{name}: {form.name} learns nothing"
            furthest = max(furthest, same_scores(trained, head, form, examples, features))
            done.append(form.name)
        trained.save(folder / "saved")
        return Outcome(encoder, trained, load(str(folder / "saved")).eval(), done, furthest)


def apart(reference: Any, encoder: Encoder) -> float:
    """The largest difference of any hidden state between a batch and one sequence at a time."""
    furthest = 0.0
    for language in (*encoder.languages, "en"):
        batch = batch_of(*LENGTHS, language=language)
        states = alone(reference, encoder, batch)
        with torch.inference_mode():
            for one in (encoder, padded(encoder)) if encoder.packs else (encoder,):
                for layer, state in enumerate(states):
                    furthest = max(furthest, float((one.hidden(batch, layer) - state).abs().max()))
    return furthest


def same_scores(encoder: Encoder, head: heads.Head, form: Format, examples: list[Any], features: FeatureSet) -> float:
    """Evaluate in every way there is; the largest difference between what the head keeps."""
    ways = [encoder.eval(), padded(encoder)] if encoder.packs else [encoder.eval()]
    kept, results = [], []
    for one in ways:
        own = heads.build(form.head, one.config, one.vocabulary)
        own.load_state_dict(head.state_dict())
        results.append(evaluate.evaluate(one, own.eval(), form, form.metrics, examples, features, language="de"))
        kept.append(forward.head_outputs(one, own, form, features, language="de"))
    # rounding may turn one example that lies between two labels; what the head keeps of it is compared below
    near = pytest.approx(results[0].scores, rel=1e-4, abs=100 / len(examples))
    assert all(result.scores == near for result in results)
    assert results[0].scores.keys() == set(form.metrics)
    scores = [torch.cat([torch.as_tensor(array).double().flatten() for array in one.scores]) for one in kept]
    return float((scores[0] - scores[-1]).abs().max())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs_in_every_format_and_packing_changes_nothing(name: str) -> None:
    assert tried(name).furthest < ALIKE
    assert tried(name).formats == [form.name for form, _ in TASKS if "T5" not in name or form.name != "mask"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_trained_encoder_loads_as_it_was_saved(name: str) -> None:
    trained, again, batch = tried(name).trained.eval(), tried(name).again, batch_of(*LENGTHS)
    with torch.inference_mode():
        hidden = trained.hidden(batch)
        assert again.hidden(batch).equal(hidden) and not hidden.equal(tried(name).encoder.hidden(batch))
        assert (again.vocabulary is None) == (trained.vocabulary is None) == ("T5" in name)
        if trained.vocabulary is not None and again.vocabulary is not None:
            assert again.vocabulary(hidden).equal(trained.vocabulary(hidden))
            assert tied(again) == trained.config.tie_word_embeddings
    assert (again.packs, again.languages, again.unused_weights) == (trained.packs, trained.languages, "")
    assert again.tokenizer_digest() == trained.tokenizer_digest()


def tied(encoder: Encoder) -> bool:
    """Whether the language-model head has the word table itself."""
    assert encoder.vocabulary is not None
    return any(weight is encoder.base.get_input_embeddings().weight for weight in encoder.vocabulary.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_text_can_be_as_long_as_the_encoder_has_positions(name: str) -> None:
    encoder = tried(name).encoder
    assert encoder.max_length == (1_000_000 if "T5" in name else 64)
    pieces = encoder.tokenizer_for(1000)
    features = FeatureSet.build(Mask(), [" ".join(SENTENCES)], pieces)
    assert features.lengths_F[0] == min(pieces.max_length, 1000, len(features.ids_T))
    with torch.inference_mode():
        assert encoder.hidden(collate(features, [0], None, generator(0))).isfinite().all()


@pytest.mark.parametrize("name", ["MT5", "UMT5"])
def test_the_encoder_of_an_encoder_decoder_is_used_and_saved(name: str, tmp_path: Path) -> None:
    whole = write(name, tmp_path / "hub")
    encoder = load(str(tmp_path / "hub")).eval()
    assert encoder.unused_weights.startswith("not used: decoder (")
    encoder.save(tmp_path / "saved")
    model = transformers.AutoModelForTextEncoding.from_pretrained(tmp_path / "saved").eval()
    batch = batch_of(9)
    with torch.inference_mode():
        expected = whole.get_encoder()(input_ids=batch.ids_T[None]).last_hidden_state[0]
        for states in (encoder.hidden(batch), model(input_ids=batch.ids_T[None]).last_hidden_state[0]):
            torch.testing.assert_close(states, expected, atol=ALIKE, rtol=0)
    assert not any("decoder" in key for key in model.state_dict())
    assert encoder.tokenizer_for(64).single([7, 8]) == ([7, 8, 2], 0)
    assert encoder.tokenizer_for(64).pair([7], [8]) == ([7, 2, 8, 2], 2)


def test_an_encoder_without_a_mask_head_is_refused_where_masked_text_is_scored(
    tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    write("MT5", tmp_path / "hub")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: m\nencoder: {tmp_path / 'hub'}\nseeds: [1]\nphases: [{{name: one, each: [play-nli]}}]\n"
        "evaluate: [play-nli, play-text]\n"
    )
    result = xstilts("run", recipe, "--out", tmp_path / "out")
    assert result.code == 2 and "has no language-model head, which the task 'play-text' needs" in result.err
    assert not (tmp_path / "out").exists()


def test_an_xlm_gets_the_language_or_english_if_unknown() -> None:
    encoder = tried("XLM").encoder
    assert encoder.languages == tried("XLM").again.languages == {"de": 0, "en": 1, "fr": 2}
    with torch.inference_mode():
        german, english, swahili = (encoder.hidden(batch_of(9, language=code)) for code in ("de", "en", "sw"))
    assert swahili.equal(english) and not german.equal(english)
    form, examples = TASKS[4]
    features = FeatureSet.build(form, examples, encoder.tokenizer_for(64))
    head = heads.build(form.head, encoder.config, None)
    kept = [forward.head_outputs(encoder, head, form, features, language=code).scores for code in ("de", "en")]
    assert abs(kept[0] - kept[1]).max() > 0.01
    config = transformers.XLMConfig(**COMMON | FAMILIES["XLM"].shape | {"n_langs": 1, "lang2id": {}, "vocab_size": 60})
    assert Encoder(transformers.XLMModel(config), encoder.tokenizer).languages == {}
    del config.lang2id
    config.n_langs = 3
    assert Encoder(transformers.XLMModel(config), encoder.tokenizer).languages == {"en": 1}


def test_token_types_are_fed_where_a_family_has_two() -> None:
    assert [name for name in FAMILIES if tried(name).encoder.has_token_types] == ["Bert", "RemBert"]


def test_a_model_that_cannot_stop_at_a_layer_returns_its_hidden_states() -> None:
    torch.manual_seed(0)
    config = transformers.AlbertConfig(
        **COMMON | {"vocab_size": 400, "embedding_size": 8}
    )  # its layers are one, repeated
    model = transformers.AlbertModel(config).eval()
    encoder = Encoder(model, tried("XLMRoberta").encoder.tokenizer)
    assert not encoder._stops and all(tried(name).encoder._stops for name in FAMILIES)
    assert apart(copy.deepcopy(padded(encoder).base), encoder) < ALIKE


def table() -> str:
    """What was seen of each family, as the page has it."""
    rows = [
        "| family | `model_type` | batches | mask head | inputs beside the token ids | formats | note |",
        "|---" * 7 + "|",
    ]
    for name, family in FAMILIES.items():
        seen = tried(name)
        encoder = seen.encoder
        head = "none" if encoder.vocabulary is None else "tied to the word embeddings" if tied(encoder) else "untied"
        messages = ["token types"] * encoder.has_token_types + ["language"] * bool(encoder.languages)
        cells = [
            name, f"`{encoder.config.model_type}`", "padding-free" if encoder.packs else "padded", head,
            ", ".join(messages) or "–",
            "all" if len(seen.formats) == len(TASKS) else "all but mask", family.note or "–",
        ]  # fmt: skip
        assert seen.furthest < ALIKE
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


TABLE = re.compile(r"^\| family .*\n(?:\|.*\n)*", re.MULTILINE)


def test_the_documented_table_of_encoders_is_up_to_date() -> None:
    (shown,) = TABLE.findall(PAGE.read_text(encoding="utf-8"))
    assert shown == table() + "\n", "`python tests/test_encoders.py` writes the table of docs/encoders.md anew"


if __name__ == "__main__":
    PAGE.write_text(TABLE.sub(lambda _: table() + "\n", PAGE.read_text(encoding="utf-8")), encoding="utf-8")
