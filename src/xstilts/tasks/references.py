"""Says where the training data of a task come from: licence, address, data sets of the Hub, publications."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xstilts.tasks import TASKS
from xstilts.tasks.source import File, Source
from xstilts.tasks.task import Split, Task

PHANG_2020 = (
    "Phang et al. 2020. English Intermediate-Task Training Improves Zero-Shot Cross-Lingual Transfer Too. AACL-IJCNLP."
)
"""The method."""
_LINES = """\
mnli Williams et al. 2018. A Broad-Coverage Challenge Corpus for Sentence Understanding through Inference. NAACL.
snli Bowman et al. 2015. A Large Annotated Corpus for Learning Natural Language Inference. EMNLP.
anli Nie et al. 2020. Adversarial NLI: A New Benchmark for Natural Language Understanding. ACL.
qqp Iyer et al. 2017. First Quora Dataset Release: Question Pairs.
xnli Conneau et al. 2018. XNLI: Evaluating Cross-lingual Sentence Representations. EMNLP.
pawsx Yang et al. 2019. PAWS-X: A Cross-lingual Adversarial Dataset for Paraphrase Identification. EMNLP.
hellaswag Zellers et al. 2019. HellaSwag: Can a Machine Really Finish Your Sentence? ACL.
cosmosqa Huang et al. 2019. Cosmos QA: Machine Reading Comprehension with Contextual Commonsense Reasoning. EMNLP.
commonsenseqa Talmor et al. 2019. CommonsenseQA: A Question Answering Challenge Targeting Commonsense Knowledge. NAACL.
siqa Sap et al. 2019. Social IQa: Commonsense Reasoning about Social Interactions. EMNLP.
copa Roemmele et al. 2011. Choice of Plausible Alternatives: An Evaluation of Commonsense Causal Reasoning. AAAI \
Spring Symposium.
xcopa Ponti et al. 2020. XCOPA: A Multilingual Dataset for Causal Commonsense Reasoning. EMNLP.
udpos Nivre et al. 2020. Universal Dependencies v2: An Evergrowing Multilingual Treebank Collection. LREC.
panx Pan et al. 2017. Cross-lingual Name Tagging and Linking for 282 Languages. ACL.
ccg Hockenmaier and Steedman 2007. CCGbank: A Corpus of CCG Derivations and Dependency Structures Extracted from the \
Penn Treebank. Computational Linguistics.
squad1 Rajpurkar et al. 2016. SQuAD: 100,000+ Questions for Machine Comprehension of Text. EMNLP.
squad2 Rajpurkar et al. 2018. Know What You Don't Know: Unanswerable Questions for SQuAD. ACL.
xquad Artetxe et al. 2020. On the Cross-lingual Transferability of Monolingual Representations. ACL.
mlqa Lewis et al. 2020. MLQA: Evaluating Cross-lingual Extractive Question Answering. ACL.
tydiqa Clark et al. 2020. TyDi QA: A Benchmark for Information-Seeking Question Answering in Typologically Diverse \
Languages. TACL.
bucc2018 Zweigenbaum et al. 2018. Overview of the Third BUCC Shared Task: Spotting Parallel Sentences in Comparable \
Corpora. BUCC.
tatoeba Artetxe and Schwenk 2019. Massively Multilingual Sentence Embeddings for Zero-Shot Cross-Lingual Transfer and \
Beyond. TACL.
lareqa Roy et al. 2020. LAReQA: Language-Agnostic Answer Retrieval from a Multilingual Pool. EMNLP.
mewslix Ruder et al. 2021. XTREME-R: Towards More Challenging and Nuanced Multilingual Evaluation. EMNLP.
"""
REFERENCES = dict(line.split(" ", 1) for line in _LINES.splitlines())
"""The publication of each built-in data set."""
_JOINED = {"anli-plus": ("snli", "mnli", "anli")}
"""Built-in tasks whose data are those of several others."""


@dataclass(frozen=True)
class TaskData:
    """Where the training data of a task come from, as far as the catalogue and the user's task file say it."""

    languages: tuple[str, ...] = ()
    license: str = ""
    """Empty if unknown."""
    url: str = ""
    hub: tuple[str, ...] = ()
    """Data sets of the Hub that have these data."""
    files: tuple[str, ...] = ()
    """The names of the files, as patterns, if no `url` says where they are from."""
    translated_from: str = ""
    """The language of the original, if the data are a translation."""
    references: tuple[str, ...] = ()
    """Publications of the training and the test data."""


def data_of(task: Task) -> TaskData:
    """Where the data of a task come from; a translation has the licence and publications of its original.

    XNLI trains on MNLI: then the licence is MNLI's, and the publications are those of both.
    """
    train, test = task.data.get("train"), task.data.get("test")
    original = TASKS.get(task.like, task) if task.translated_from else task
    owner = _owner("train", original.data.get("train"))
    source = owner or task
    named = train if owner is None or task.translated_from or not source.url else None
    return TaskData(
        languages=task.train_languages if train else (),
        license=source.license if train else "",
        url=source.url if train else "",
        hub=tuple(dict.fromkeys(_hub_datasets(train))),
        files=tuple(dict.fromkeys(x.path if ":" in x.path else Path(x.path).name for x in _files(named))),
        translated_from=task.translated_from,
        references=tuple(dict.fromkeys((*_references(owner), *_references(_owner("test", test))))),
    )


def _owner(split: Split, source: Source | None) -> Task | None:
    """The first built-in task with these data; else, for files that the package names, the first with these files."""
    if source is None:
        return None
    same = (task for task in TASKS.values() if task.data.get(split) == source)
    paths = {file.path for file in _files(source)}
    parts = (task for task in TASKS.values() if not source.own and paths <= _paths(task))
    return next(same, None) or next(parts, None)


def _paths(task: Task) -> set[str]:
    """The paths of all its files."""
    return {file.path for source in task.data.values() for file in _files(source)}


def _references(task: Task | None) -> list[str]:
    names = _JOINED.get(task.name, (task.name,)) if task else ()
    return [REFERENCES[name] for name in names if name in REFERENCES]


def _files(source: Source | None) -> Iterator[File]:
    """The files of all layouts."""
    return (file for layout in (source.layouts if source else ()) for file in layout)


def _hub_datasets(source: Source | None) -> Iterator[str]:
    """The data sets of the Hub among the files."""
    for file in _files(source):
        if found := re.match(r"hub:([^/@]+/[^/@]+)", file.path):
            yield found[1]
