"""The pieces of an encoder are those of its tokenizer.json, whatever its class; also saved, and loaded again."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers

from conftest import SENTENCES, Files
from test_encoders import COMMON, FAMILIES
from xstilts.errors import UserError
from xstilts.model.encoder import Encoder, load, quiet
from xstilts.model.new_encoder import create, given
from xstilts.model.shape import NewEncoder
from xstilts.model.tokenizer import unknown_id
from xstilts.model.trained import TrainedModel

TEXTS = ("HELLO, the Old Bridge of 1958!", "Она ДВАЖДЫ прочитала всё.", "no-one", "ÀÉ", "<mask> [MASK]", "  a  b ", "")
SIGNS = {"s": ("<s>", "</s>", "<pad>", "<unk>", "<mask>"), "cls": ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")}
"""First, last, padding, unknown, mask."""
ROLES = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")


def rules(kind: str, signs: tuple[str, ...]) -> tokenizers.Tokenizer:
    """A tokenizer that writes text in lower case and takes digits and hyphens apart, which no class does by itself."""
    _, _, _, unknown, _ = signs
    special: dict[str, Any] = {"special_tokens": list(signs), "show_progress": False, "vocab_size": 380}
    trainer: Any
    blanks: Any = pre_tokenizers.Metaspace()
    if kind == "unigram":
        made = tokenizers.Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(unk_token=unknown, **special)
    elif kind == "wordpiece":
        made = tokenizers.Tokenizer(models.WordPiece(unk_token=unknown))
        trainer, blanks = trainers.WordPieceTrainer(**special), pre_tokenizers.BertPreTokenizer()
    else:
        made = tokenizers.Tokenizer(models.BPE(unk_token=unknown))
        trainer = trainers.BpeTrainer(**special)
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    apart = pre_tokenizers.Split(Regex("-"), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([apart, pre_tokenizers.Digits(individual_digits=True), blanks])
    made.train_from_iterator(SENTENCES, trainer)
    ends = [(sign, made.token_to_id(sign)) for sign in signs[:2]]
    first, last = signs[:2]
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} $B:1 {last}:1", special_tokens=ends
    )
    return made


MORE = {
    "Electra": {"embedding_size": 8, "type_vocab_size": 2},
    "Xmod": {"languages": ["en_XX"], "default_language": "en_XX", "max_position_embeddings": 66, "type_vocab_size": 1},
    "Deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0},
}  # fmt: skip
"""Families that share their tokenizer's class with another one, or are an older version of one."""
CASES = [
    ("XLMRoberta", "XLMRobertaTokenizer", "unigram", "s"),
    ("Xmod", "XLMRobertaTokenizerFast", "unigram", "s"),
    ("Bert", "BertTokenizer", "wordpiece", "cls"),
    ("DistilBert", "DistilBertTokenizer", "wordpiece", "cls"),
    ("Electra", "ElectraTokenizerFast", "wordpiece", "cls"),
    ("ModernBert", "PreTrainedTokenizerFast", "bpe", "cls"),
    ("EuroBert", "PreTrainedTokenizerFast", "bpe", "s"),
    ("Deberta", "DebertaTokenizer", "bpe", "cls"),
    ("DebertaV2", "DebertaV2Tokenizer", "unigram", "cls"),
    ("RemBert", "RemBertTokenizer", "unigram", "cls"),
    ("MT5", "T5Tokenizer", "unigram", "s"),
    ("UMT5", "T5TokenizerFast", "unigram", "s"),
    ("XLM", "XLMTokenizer", "bpe", "s"),
    ("Bert", "BertTokenizer", "unigram", "s"),  # another family's pieces
    ("XLMRoberta", "XLMRobertaTokenizer", "wordpiece", "cls"),
]


def write(folder: Path, family: str, made: tokenizers.Tokenizer, words: dict[str, Any] | None) -> Path:
    """A folder with random weights, tokenizer.json and, unless None, tokenizer_config.json."""
    quiet()
    own = FAMILIES[family].shape if family in FAMILIES else MORE[family]
    shape = {key: value for key, value in (COMMON | {"vocab_size": 400} | own).items() if value is not None}
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**shape)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    made.save(str(folder / "tokenizer.json"))
    if words is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(words))
    return folder


def ids_of(encoder: Encoder) -> list[list[int]]:
    """The ids that the formats get."""
    return encoder.tokenizer_for(64).encode(TEXTS)


@pytest.mark.parametrize("named", ["class", "no class", "no file"])
@pytest.mark.parametrize(("family", "cls", "kind", "signs"), CASES)
def test_the_pieces_are_those_of_tokenizer_json(
    family: str, cls: str, kind: str, signs: str, named: str, tmp_path: Path
) -> None:
    tokens = dict(zip(ROLES, SIGNS[signs], strict=True))
    words = {"class": tokens | {"tokenizer_class": cls}, "no class": tokens, "no file": None}[named]
    folder = write(tmp_path / "hub", family, rules(kind, SIGNS[signs]), words)
    own = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    pieces = [own.encode(text, add_special_tokens=False).ids for text in TEXTS]
    encoder = load(str(folder))
    assert ids_of(encoder) == pieces
    tokenizer = encoder.tokenizer
    assert {role: getattr(tokenizer, role) for role in ROLES} == tokens
    assert tokenizer(*TEXTS[:2]).input_ids == own.encode(*TEXTS[:2]).ids

    TrainedModel(encoder).save(tmp_path / "step")
    saved = tmp_path / "step/encoder"
    again = TrainedModel.load(tmp_path / "step").encoder
    assert ids_of(again) == pieces and again.tokenizer_digest() == encoder.tokenizer_digest()
    written = tokenizers.Tokenizer.from_file(str(saved / "tokenizer.json"))
    assert [written.encode(text, add_special_tokens=False).ids for text in TEXTS] == pieces
    theirs = transformers.AutoTokenizer.from_pretrained(saved)
    assert theirs(*TEXTS[:2]).input_ids == own.encode(*TEXTS[:2]).ids, "transformers reads a saved folder alike"
    padded = theirs(list(TEXTS[:2]), padding=True).input_ids
    assert len({len(ids) for ids in padded}) == 1 and tokenizer.pad_token_id in [ids[-1] for ids in padded]
    types = {"token_type_ids"} if getattr(encoder.config, "type_vocab_size", 1) > 1 else set()
    assert set(theirs("a", "b")) == {"input_ids", "attention_mask"} | types, "what the model's forward pass takes"


def test_a_token_that_tokenizer_json_lacks_is_not_added(tmp_path: Path) -> None:
    words = {"tokenizer_class": "BertTokenizer", "mask_token": "[MASK]", "pad_token": {"content": "<pad>"},
             "sep_token": None, "extra_special_tokens": ["[LANG]", "<unk>"]}  # fmt: skip
    folder = write(tmp_path, "Bert", rules("unigram", SIGNS["s"]), words)
    tokenizer = load(str(folder)).tokenizer
    own = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab() == own.get_vocab()
    assert (tokenizer.mask_token, tokenizer.pad_token, tokenizer.sep_token) == ("<mask>", "<pad>", None)
    assert "[LANG]" not in tokenizer.all_special_tokens


def test_special_tokens_of_an_older_file_are_read(tmp_path: Path) -> None:
    made = rules("bpe", ("<BOS>", "<EOS>", "<P>", "<U>", "<M>"))
    folder = write(tmp_path, "Bert", made, {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 32})
    named = {"mask_token": {"content": "<M>", "lstrip": True}, "pad_token": "<P>", "unk_token": "<U>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(named))
    tokenizer = load(str(folder)).tokenizer
    assert (tokenizer.mask_token, tokenizer.pad_token, tokenizer.unk_token) == ("<M>", "<P>", "<U>")
    assert tokenizer.cls_token is None and tokenizer.model_max_length == 32


CODE = """
from transformers import BertTokenizer
class Theirs(BertTokenizer):
    def __init__(self, **words):
        super().__init__(**words)
        self._tokenizer.normalizer = None
"""


def test_a_tokenizer_whose_code_has_other_rules_is_refused(tmp_path: Path) -> None:
    words = {"tokenizer_class": "Theirs", "auto_map": {"AutoTokenizer": [None, "theirs.Theirs"]}}
    folder = write(tmp_path / "coded", "Bert", rules("wordpiece", SIGNS["cls"]), words)
    (folder / "theirs.py").write_text(CODE)
    with pytest.raises(UserError, match=r"coded: the tokenizer's class, Theirs, has other rules than its tokenizer"):
        load(str(folder), remote_code=True)


def test_a_new_encoder_takes_the_rules_of_a_given_tokenizer(tmp_path: Path) -> None:
    words = {"tokenizer_class": "XLMRobertaTokenizer"}
    own = write(tmp_path / "own", "XLMRoberta", rules("unigram", SIGNS["s"]), words)
    shape = NewEncoder(tokenizer=str(own), layers=1, hidden=16, max_length=32)
    create(shape, tokenizer=given(str(own))).save(tmp_path / "made")
    pieces = tokenizers.Tokenizer.from_file(str(own / "tokenizer.json"))
    expected = [pieces.encode(text, add_special_tokens=False).ids for text in TEXTS]
    assert ids_of(load(str(tmp_path / "made"))) == expected


def test_a_folder_with_only_a_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "Bert", rules("wordpiece", SIGNS["cls"]), None)
    (folder / "tokenizer.json").rename(folder / "vocab.txt")
    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        load(str(folder))


@pytest.mark.parametrize("kind", ["unigram", "wordpiece", "bpe"])
def test_every_kind_of_tokenizer_has_its_unknown_token(kind: str) -> None:
    made = rules(kind, SIGNS["cls"])
    assert unknown_id(made) == made.token_to_id("[UNK]")


def test_a_tokenizer_of_bytes_has_no_unknown_token() -> None:
    made = tokenizers.Tokenizer(models.BPE())
    made.train_from_iterator(SENTENCES, trainers.BpeTrainer(show_progress=False, vocab_size=300))
    assert unknown_id(made) is None


def latin(study: Files) -> None:
    """Give the study an encoder whose tokenizer has seen no Cyrillic letter, and German data that are Russian."""
    latin_only = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    latin_only.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(special_tokens=list(SIGNS["cls"]), show_progress=False, vocab_size=300)
    latin_only.train_from_iterator(SENTENCES[:9], trainer)
    ends = [(sign, latin_only.token_to_id(sign)) for sign in ("[CLS]", "[SEP]")]
    latin_only.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    folder = write(study.folder / "latin", "Bert", latin_only, None)
    study.edit(
        "recipe.yaml", (study.folder / "recipe.yaml").read_text().split("encoder: ")[1].split("\n")[0], str(folder)
    )
    rows = [f"{SENTENCES[9]}\t{SENTENCES[10]}\t{label}\n" for label in ("entailment", "neutral", "contradiction")]
    for split in ("dev", "test"):
        study.write(f"{split}-de.tsv", "".join(rows))


def test_run_and_check_say_which_language_the_tokenizer_cannot_write(study: Files) -> None:
    assert "the tokenizer gives" not in study.run().err, "its own tokenizer knows the data"
    latin(study)
    checked = study.call("check", study.folder / "recipe.yaml", "--data", study.folder)
    ran = study.call("run", study.folder / "recipe.yaml", "--out", study.folder / "second")
    for result in (checked, ran):
        assert result.code == 0, result.err
        (line,) = (line for line in (result.out + result.err).splitlines() if "[UNK]" in line)
        found = re.fullmatch(r"(.*): the tokenizer gives many \[UNK\] \(de (\d+) % of the tokens\); is it .*", line)
        assert found and found[1].endswith("latin") and 50 < int(found[2]) < 100, "its full stops are known"


def test_run_and_check_say_which_raw_text_is_longer_than_a_forward_pass(study: Files) -> None:
    lines = {"en": ["a b c d " * 30] * 3 + ["a b"], "de": ["a b c"] * 9 + ["a b c d " * 8]}
    for code, some in lines.items():
        study.write(f"text-{code}.txt", "\n".join(some))
    study.write("tasks.yaml", (study.folder / "tasks.yaml").read_text(encoding="utf-8") + (
        "text: {like: masked-text, languages: [en, de], train_languages: [en, de], max_length: 64,"
        ' data: {train: "text-{lang}.txt"}}\n'))  # fmt: skip
    study.edit("recipe.yaml", "phases:", "phases:\n  - {name: adapt, choices: [[text]], settings: {steps: 1}}")
    latin(study)
    checked = study.call("check", study.folder / "recipe.yaml", "--data", study.folder)
    assert checked.code == 0, checked.err
    (line,) = (line for line in checked.out.splitlines() if "lines are longer" in line)
    words = (
        r"text \(en\): 3 of 4 lines are longer than 32 pieces; what is beyond \((\d+) %\) is not read: one sentence .*"
    )
    found = re.fullmatch(words, line)
    assert found and 70 < int(found[1]) < 80, line  # 32 of 122; of the German only 2 pieces in 79 are not read


def test_show_counts_the_unknown_tokens(study: Files) -> None:
    latin(study)
    use = ["--use", study.folder / "tasks.yaml", "--encoder", study.folder / "latin"]
    result = study.call("show", "mine", "de", 0, *use)
    assert result.code == 0 and re.search(r"pass 1 +\d+ tokens, \d+ of them \[UNK\]\n", result.out), result.out
    assert "[UNK]" not in study.call("show", "mine", "en", 0, "--split", "dev", *use).out
