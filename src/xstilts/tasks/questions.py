"""Extractive question answering tasks."""

from xstilts.formats import Span
from xstilts.languages import codes
from xstilts.tasks.shorthand import either, hub
from xstilts.tasks.source import File, Source
from xstilts.tasks.task import Task

QA = Span()
F1_EM = ("f1_em", "f1", "em")
SQUAD_TRAIN, SQUAD_DEV = (
    either(f"squad/{split}-v1.1.json", hub("rajpurkar/squad/plain_text", split)) for split in ("train", "dev")
)
TYDI_TRAIN = either(
    "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.en.train.json",
    "tydiqa_goldp/tydiqa.goldp.en.train.json",
    File(path="tydiqa/tydiqa-goldp-v1.1-train.json", where={"id": "english-*"}),
    hub("google/xtreme/tydiqa", "train", where={"id": "english-*"}),
)
TYDI_TEST = either(
    "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.{lang}.dev.json",
    "tydiqa_goldp/tydiqa.goldp.{lang}.dev.json",
    "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-{language}.json",
    hub("google/xtreme/tydiqa", "dev", where={"id": "{language}-*"}),
)
"""TyDi QA's dev set by language, which is XTREME's test set."""


def _squad2(split: str) -> Source:
    paths = f"squad2/{split}-v2.0.json", f"squad/{split}-v2.0.json"
    return either(*paths, hub("rajpurkar/squad_v2/squad_v2", split))


def _mlqa(split: str) -> Source:
    name = f"{split}/{split}-context-{{lang}}-question-{{lang}}.json"
    paths = f"mlqa/MLQA_V1/{name}", f"MLQA_V1/{name}", f"mlqa/{name}"
    return either(*paths, hub("google/xtreme/MLQA.{lang}.{lang}", split))


XQUAD = either("xquad/xquad.{lang}.json", hub("google/xquad/xquad.{lang}", "dev"))

CATALOGUE = (
    Task(
        name="squad1", format=QA, data={"train": SQUAD_TRAIN, "dev": SQUAD_DEV}, metrics=F1_EM, batch=8, epochs=3,
        max_length=384, license="CC BY-SA 4.0", url="https://rajpurkar.github.io/SQuAD-explorer/",
        note="the test set is not public",
    ),
    Task(
        name="squad2", format=Span(no_answer=True), metrics=("squad2_f1_em", "squad2_f1", "squad2_em"), batch=8,
        epochs=3, max_length=384,
        data={"train": _squad2("train"), "dev": _squad2("dev")},
        license="CC BY-SA 4.0", url="https://rajpurkar.github.io/SQuAD-explorer/",
        note="half of dev's questions have no answer; the no-answer threshold is tuned on dev itself, as is usual",
    ),
    Task(
        name="xquad", format=QA, languages=codes("ar de el en es hi ru th tr vi zh"), more_languages=("ro",),
        data={"train": SQUAD_TRAIN, "stop": SQUAD_DEV, "test": XQUAD}, metrics=F1_EM,
        batch=16, epochs=2, max_length=384, license="CC BY-SA 4.0", url="https://github.com/google-deepmind/xquad",
        note="trains on English SQuAD 1.1; the test set is a translated part of SQuAD's dev set, which also "
             "serves early stopping; answers are normalized by English rules in all languages",
    ),
    Task(
        name="mlqa", format=QA, metrics=("mlqa_f1_em", "mlqa_f1", "mlqa_em"), batch=16, epochs=2, max_length=384,
        data={"train": SQUAD_TRAIN, "stop": SQUAD_DEV, "dev": _mlqa("dev"), "test": _mlqa("test")},
        languages=codes("ar de en es hi vi zh"), license="CC BY-SA 3.0", url="https://github.com/facebookresearch/MLQA",
        note="trains on English SQuAD 1.1; context and question are in the same language, as in XTREME",
    ),
    Task(
        name="tydiqa", format=QA, metrics=F1_EM, batch=16, epochs=2, max_length=384, held_out="10/10",
        data={"train": TYDI_TRAIN, "test": TYDI_TEST}, languages=codes("ar bn en fi id ko ru sw te"),
        license="Apache 2.0", url="https://github.com/google-research-datasets/tydiqa",
        note="trains on nine tenths of the English training set, the last tenth is for early stopping; XTREME's test "
             "set is the dev set",
    ),
)  # fmt: skip
