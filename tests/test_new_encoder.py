"""New encoders: what their tokenizer is trained on, or which one they are given."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from conftest import Files
from xstilts.errors import UserError
from xstilts.model import encoder_folder, new_encoder
from xstilts.model.encoder import load
from xstilts.model.shape import NewEncoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[LANG]", *"a b c d e f g h i j k l".split()]
NAMES = {name: f"[{name[:-6].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")}


def tokenizer(folder: Path, *, around: bool = True, **names: str | None) -> Path:
    """A tokenizer of BERT's kind: no bos and no eos, its padding is piece 0."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if around:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    named = {**NAMES, **names}
    fast = PreTrainedTokenizerFast(tokenizer_object=made, extra_special_tokens=["[LANG]"], **named)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tokenizer(tmp_path / "own")


@pytest.fixture
def pretraining(study: Files, own: Path) -> Files:
    """A study that pretrains a new encoder with a tokenizer of one's own."""
    study.edit("tasks.yaml", "mine:", "letters: {format: mask, data: {train: letters.txt}}\nmine:")
    study.write("letters.txt", "a b c d e f g h i j k l\n" * 8)
    study.write(
        "recipe.yaml",
        f"name: new\nencoder: {{tokenizer: {own}, layers: 1, hidden: 16, max_length: 32}}\nseeds: [1]\n"
        "use: [tasks.yaml]\nsettings: {steps: 2, batch: 4, max_length: 32}\n"
        "phases: [{name: pretrain, choices: [[letters]]}]\nevaluate: pairs\nkeep: all\n",
    )
    return study


def test_a_new_encoder_has_an_embedding_for_each_token_of_its_tokenizer(pretraining: Files, own: Path) -> None:
    result = pretraining.run()
    assert result.code == 0, result.err
    (created,) = (path.parent for path in (pretraining.out / "steps").glob("*/step.json")
                  if json.loads(path.read_text())["kind"] == "create")  # fmt: skip
    made = load(str(created / "encoder"))
    assert made.packs and made.max_length == 32 and made.vocabulary is not None
    assert made.config.vocab_size == len(WORDS) and made.config.pad_token_id == 0
    text = "a b [LANG] z"
    assert made.tokenizer(text).input_ids == AutoTokenizer.from_pretrained(own)(text).input_ids == [2, 6, 7, 5, 1, 3]
    assert set(made.masking().special) == set(range(6)), "no special piece is ever hidden"
    assert set(made.tokenizer("a", "b")) == {"input_ids", "attention_mask"}, "there is one type of token only"
    inputs = json.loads((created / "done.json").read_text())["inputs"]
    assert {str(own / "tokenizer.json"), str(own / "tokenizer_config.json")} == inputs.keys()


def test_a_changed_tokenizer_is_refused(pretraining: Files, own: Path) -> None:
    assert pretraining.run().code == 0
    text = (own / "tokenizer.json").read_text()
    (own / "tokenizer.json").write_text(text.replace('"k": 16', '"k": 17').replace('"l": 17', '"l": 16'))
    result = pretraining.run()
    assert result.code == 2
    assert (
        f"error: {own}/tokenizer.json: has changed since it was read; made from it: 1 new encoder, 1 training, "
        in result.err
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mask_token": None}, "the tokenizer has no mask token (name it in its tokenizer_config.json"),
        ({"pad_token": None, "cls_token": None}, "the tokenizer has no pad and no cls or bos token"),
        ({"around": False}, "the tokenizer puts no token before a text"),
        ({"mask_token": "[PAD]"}, "the tokenizer has one token for mask and pad"),
    ],
)
def test_an_unusable_tokenizer_is_refused_before_any_output(
    pretraining: Files, own: Path, wrong: dict[str, str | None], message: str
) -> None:
    tokenizer(own, **wrong)  # type: ignore[arg-type]
    pretraining.refused(f"error: {own}: {message}")


def test_a_tokenizer_with_an_id_far_above_its_size_is_refused(pretraining: Files, own: Path) -> None:
    text = (own / "tokenizer.json").read_text()
    (own / "tokenizer.json").write_text(text.replace('"l": 17', '"l": 2000000000'))
    pretraining.refused(f"error: {own}: the tokenizer has 18 pieces, but ids up to 2,000,000,000")


def test_the_code_of_a_tokenizer_is_not_run(pretraining: Files, own: Path) -> None:
    (own / "theirs.py").write_text("raise SystemExit('run')\n")
    config = json.loads((own / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Theirs", "auto_map": {"AutoTokenizer": [None, "theirs.Theirs"]}}
    (own / "tokenizer_config.json").write_text(json.dumps(config))
    pretraining.refused(f"error: {own}: ")


def test_an_impossible_hub_name_has_no_files() -> None:
    assert encoder_folder.files("{data}/a/b") == encoder_folder.files("a b") == {}


def test_a_tokenizer_that_cannot_be_loaded_is_refused(pretraining: Files, own: Path) -> None:
    (own / "tokenizer.json").write_text("{}")
    pretraining.refused(f"error: {own}: cannot be loaded as a fast tokenizer")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            "tokenizer: word",
            ":2: encoder.tokenizer: 'word' is neither a way to train a tokenizer nor a",
        ),
        ("tokenizer: ./none", ":2: encoder.tokenizer: there is no folder './none'"),
        ("tokenizer: EMPTY", "empty' has no fast tokenizer (tokenizer.json)"),
        ("tokenizer: FILE", "is a file; a tokenizer is a folder"),
        ("tokenizer: OWN, text: play-text", "leave `text` and `vocabulary` out"),
        ("tokenizer: OWN, vocabulary: 100", "leave `text` and `vocabulary` out"),
        ("layers: 2", "needs `text`, a task whose text trains its tokenizer, or a `tokenizer` that is given"),
    ],
)
def test_check_reports_a_wrong_tokenizer(pretraining: Files, own: Path, shape: str, message: str) -> None:
    (own.parent / "empty").mkdir()
    names = {"EMPTY": own.parent / "empty", "FILE": own / "tokenizer.json", "OWN": own}
    for name, path in names.items():
        shape = shape.replace(name, str(path))
    pretraining.edit("recipe.yaml", f"{{tokenizer: {own}, layers: 1, hidden: 16, max_length: 32}}", f"{{{shape}}}")
    result = pretraining.call("check", pretraining.folder / "recipe.yaml")
    assert result.code == 2 and message in result.err, result.err
    assert result.err.count("error: ") == 1, result.err


def test_check_accepts_a_tokenizer_on_the_hub_or_beside_the_data(pretraining: Files, own: Path) -> None:
    for name in ("me/tokenizer@v1", "'{data}/own'"):
        pretraining.write("new.yaml", (pretraining.folder / "recipe.yaml").read_text().replace(str(own), name))
        assert pretraining.call("check", pretraining.folder / "new.yaml").code == 0
    result = pretraining.call("run", pretraining.folder / "new.yaml", "--data", own.parent, "--out", pretraining.out)
    assert result.code == 0, result.err


def test_a_hub_tokenizer_has_the_files_of_its_cache(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert encoder_folder.files("me/tok") == {}
    folder = tmp_path / "hub/models--me--tok"
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40) / "tokenizer.json").write_bytes((own / "tokenizer.json").read_bytes())
    (path,) = encoder_folder.files("me/tok")
    assert Path(path).name == "tokenizer.json"
    assert set(encoder_folder.files("me/tok").values()) < set(encoder_folder.files(str(own)).values())


def test_a_tokenizer_is_trained_on_a_stream() -> None:
    def texts() -> Iterator[str]:
        yield from ("the cat sleeps", "the dog sleeps") * 5

    shape = NewEncoder(text="none", hidden=8, layers=1, vocabulary=100, max_length=16)
    streamed, listed = (new_encoder.create(shape, source) for source in (texts(), list(texts())))
    assert streamed.tokenizer_digest() == listed.tokenizer_digest()


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded as a fast tokenizer"):
        new_encoder.given(str(tmp_path))
