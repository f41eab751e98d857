"""Tasks that classify a pair of sentences."""

from typing import Any

from xstilts.formats import Classify
from xstilts.languages import codes
from xstilts.tasks.shorthand import SPLITS, either, hub, joined
from xstilts.tasks.source import File, Source
from xstilts.tasks.task import Task

NLI = Classify(
    labels=("contradiction", "entailment", "neutral"),
    spellings={"contradictory": "contradiction", "c": "contradiction", "e": "entailment", "n": "neutral"},
    drop=("-", "-1"),
)
"""jiant's order of the classes; XNLI's translated MNLI writes `contradictory`, ANLI writes one letter.

Pairs without annotator agreement have the label `-`, on the Hub `-1`.
"""
PARAPHRASE = Classify(labels=("0", "1"), texts=("sentence1", "sentence2"))

_JSONL = {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"}
_QUORA = {"sentence1": "question1", "sentence2": "question2"}
_CLASSES = ("entailment", "neutral", "contradiction")
"""The Hub's order of the classes."""


def _snli(split: str) -> Source:
    originals = (File(path=f"{folder}/snli_1.0_{split}.jsonl", columns=_JSONL) for folder in ("snli", "snli_1.0"))
    return either(*originals, hub("stanfordnlp/snli/plain_text", split, classes=_CLASSES))


def _anli(split: str) -> Source:
    def rounds(path: str, **fields: Any) -> tuple[File, ...]:
        return tuple(File(path=path.format(number), **fields) for number in (1, 2, 3))

    jsonl = (
        rounds(f"{folder}/R{{}}/{split}.jsonl", columns={"premise": "context"}) for folder in ("anli", "anli_v1.0")
    )
    return Source(layouts=(*jsonl, rounds(f"hub:facebook/anli/plain_text/{split}_r{{}}-*.parquet", classes=_CLASSES)))


def _xnli(split: str) -> Source:
    of_language = {"language": "{lang}"}
    original = File(path=f"XNLI-1.0/xnli.{split}.jsonl", columns=_JSONL, where=of_language)
    on_hub = hub("google/xtreme/XNLI", split, columns=_JSONL, where=of_language)
    return either(f"xnli/{split}-{{lang}}.tsv", original, on_hub)


def _pawsx(split: str) -> Source:
    original = "train" if split == "train" else f"{split}_2k"
    paths = (
        f"pawsx/{split}-{{lang}}.tsv",
        f"x-final/{{lang}}/{original}.tsv",
        f"pawsx_with_ids/{{lang}}.{original}.tsv",
    )
    return either(*paths, hub("google/xtreme/PAWS-X.{lang}", split))


def _qqp(split: str) -> Source:
    glue = File(path=f"QQP/{split}.tsv", columns={**_QUORA, "label": "is_duplicate"})
    wang = File(path=f"qqp/{split}.tsv", columns=("label", "sentence1", "sentence2", "id"), broken="replace")
    return either(glue, hub("nyu-mll/glue/qqp", split, columns=_QUORA), wang)


MNLI_TRAIN = either(
    File(path="multinli_1.0/multinli_1.0_train.jsonl", columns=_JSONL),
    "xnli/train-en.tsv",
    File(path="MNLI/train.tsv", columns=_JSONL),
    File(path="XNLI-MT-1.0/multinli/multinli.train.en.tsv", columns={"hypothesis": "hypo"}),
    hub("nyu-mll/glue/mnli", "train", classes=_CLASSES),
)
MNLI_DEV = either(
    File(path="multinli_1.0/multinli_1.0_dev_matched.jsonl", columns=_JSONL),
    File(path="MNLI/dev_matched.tsv", columns=_JSONL),
    hub("nyu-mll/glue/mnli", "validation_matched", classes=_CLASSES),
)

CATALOGUE = (
    Task(
        name="anli-plus", format=NLI, metrics=("accuracy",), batch=24, epochs=2,
        data={"train": joined(_snli("train"), MNLI_TRAIN, _anli("train")),
              "dev": joined(_snli("dev"), MNLI_DEV, _anli("dev"))},
        license="CC BY-NC 4.0 (ANLI); those of SNLI and MNLI", url="https://github.com/facebookresearch/anli",
        note="SNLI, MNLI and the three rounds of ANLI joined, with one head; dev has MNLI's matched part",
    ),
    Task(
        name="mnli", format=NLI, data={"train": MNLI_TRAIN, "dev": either(MNLI_DEV, "nli_small/mnli.dev.csv")},
        metrics=("accuracy",), batch=24, epochs=2,
        license="OANC and others (see paper)", url="https://cims.nyu.edu/~sbowman/multinli/",
        note="dev is the matched part (the CSV has both); pairs without agreement (label -) are left out",
    ),
    Task(
        name="snli", format=NLI, data={s: _snli(s) for s in SPLITS}, metrics=("accuracy",), batch=24,
        epochs=2, license="CC BY-SA 4.0", url="https://nlp.stanford.edu/projects/snli/",
        note="pairs without agreement (label -) are left out",
    ),
    Task(
        name="anli", format=NLI, data={s: _anli(s) for s in SPLITS}, metrics=("accuracy",), batch=24,
        epochs=2, license="CC BY-NC 4.0", url="https://github.com/facebookresearch/anli",
        note="one score for all three rounds, which were collected against increasingly strong models",
    ),
    Task(
        name="qqp", format=PARAPHRASE, metrics=("accuracy_f1", "accuracy", "positive_f1"), batch=24, epochs=3,
        data={"train": _qqp("train"), "dev": _qqp("dev")},
        license="Quora's terms, not for commercial use", url="https://gluebenchmark.com/tasks",
        note="GLUE's split (test without labels), or, in a folder qqp/, Wang et al.'s (10,000 balanced dev pairs)",
    ),
    Task(
        name="xnli", format=NLI, held_out="100/100",
        data={"train": MNLI_TRAIN, "stop": MNLI_DEV, "dev": _xnli("dev"), "test": _xnli("test")},
        languages=codes("ar bg de el en es fr hi ru sw th tr ur vi zh"), metrics=("accuracy",), batch=4, epochs=2,
        license="CC BY-NC 4.0", url="https://github.com/facebookresearch/XNLI",
        note="trains on English MNLI, stops on its dev set, or without it on a hundredth of the training set; "
             "batch 4 is from the paper's Table 5, but its code has 32",
    ),
    Task(
        name="pawsx", format=PARAPHRASE, data={s: _pawsx(s) for s in SPLITS},
        languages=codes("de en es fr ja ko zh"), metrics=("accuracy",), batch=32, epochs=5,
        license="free use with acknowledgement of Google", url="https://github.com/google-research-datasets/paws",
        note="dev and test are human translations; labels differ between languages for up to 1.6 % of the pairs",
    ),
)  # fmt: skip
