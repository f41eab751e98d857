"""Tasks that find translations, answers or entities; they have no training data."""

from xstilts.formats import Retrieve
from xstilts.languages import codes
from xstilts.tasks.shorthand import either, hub
from xstilts.tasks.source import File, Source
from xstilts.tasks.task import Task

TATOEBA = codes(
    "af ar bg bn de el es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr nl pt ru sw ta te th tl tr ur vi zh"
)
XQUAD_R = ("lareqa_xquad_r", "lareqa/xquad-r", "xquad-r")
_HUB = {"source": "source_sentence", "target": "target_sentence"}


def _tatoeba(folder: str) -> File:
    path = f"{folder}/tatoeba.{{lang3}}-eng."
    return File(path=path + "{lang3}", pair=path + "eng")


_SORTED = File(path="tatoeba/{lang}-en.{lang}", pair="tatoeba/{lang}-en.en", aligned=False)
"""XTREME's script sorts the English side alone, so nothing says which lines belong together."""


def _bucc(ours: str, original: str) -> Source:
    names = f"bucc2018/{{lang}}-en.{ours}.", f"bucc2018/{{lang}}-en/{{lang}}-en.{original}."
    return either(*(File(path=name + "{lang}", pair=name + "en", gold=name + "gold") for name in names))


def _mewslix(split: str) -> Source:
    path, candidates = f"mewslix/wikinews_mentions-{split}.jsonl", "mewslix/candidate_set_entities.jsonl"
    return either(File(path=path, pair=candidates, where={"language": "{lang}"}))


CATALOGUE = (
    Task(
        name="bucc2018", format=Retrieve(find="mined"), languages=codes("de fr ru zh"), metrics=("pair_f1",),
        max_length=512, data={"dev": _bucc("dev", "sample"), "test": _bucc("test", "training")},
        license="BUCC 2018 shared task's terms", url="https://comparable.limsi.fr/bucc2018/",
        note="the score threshold is tuned on dev; the Hub's copies are not read: they lack the sentences without a "
             "translation, which makes the task easier",
    ),
    Task(
        name="tatoeba", format=Retrieve(), languages=TATOEBA, more_languages=codes("az lt pl ro uk"),
        metrics=("accuracy",), max_length=512, license="CC BY 2.0 FR", url="https://github.com/facebookresearch/LASER",
        data={"test": either(*map(_tatoeba, ("tatoeba", "tatoeba/v1", "LASER/data/tatoeba/v1")),
                             hub("google/xtreme/tatoeba.{lang3}", "dev", columns=_HUB), _SORTED)},
        note="at most 1,000 pairs per language; the score depends strongly on the hidden layer",
    ),
    Task(
        name="lareqa", format=Retrieve(find="ranked"), languages=codes("ar de el en es hi ru th tr vi zh"),
        metrics=("map@20",), max_length=512, license="CC BY-SA 4.0",
        data={"test": either(*(File(path=f"{d}/{{lang}}.json", pair=f"{d}/*.json") for d in XQUAD_R))},
        url="https://github.com/google-research-datasets/lareqa",
        note="not trained for retrieval; XTREME-R first trains the vectors on SQuAD and scores far higher",
    ),
    Task(
        name="mewslix", format=Retrieve(find="ranked"), languages=codes("ar de en es fa ja pl ro ta tr uk"),
        metrics=("mrr@20",), max_length=512, data={"dev": _mewslix("dev"), "test": _mewslix("test")},
        license="CC BY-SA 3.0 (Wikipedia), CC BY 2.5 (WikiNews)",
        url="https://github.com/google-research/google-research (dense_representations_for_entity_retrieval/mel)",
        note="not trained for retrieval (XTREME-R first trains on English mentions); a million candidates; the edition "
             "is of May 2022, but XTREME-R's paper used an earlier one",
    ),
)  # fmt: skip
