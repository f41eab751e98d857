"""The playground's tasks, generated in constructed languages; nothing to download."""

from xstilts import playground
from xstilts.formats import Choose, Mask, Retrieve, Span
from xstilts.tasks.pairs import NLI, PARAPHRASE
from xstilts.tasks.questions import F1_EM, QA
from xstilts.tasks.source import Source
from xstilts.tasks.tagging import NER, UPOS
from xstilts.tasks.task import Task

ALL = playground.LANGUAGES
FOREIGN = tuple(language for language in ALL if language != "en")


def _data(dataset: str, **others: str) -> dict[str, Source]:
    """The splits of a data set; `others` replaces or adds splits."""
    splits = playground.splits(dataset, playground.DATASETS[dataset].languages[0])
    own = {split: f"{dataset}/{split}" for split in splits}
    return {split: Source.model_validate(f"playground:{path}") for split, path in (own | others).items()}


_TASKS = (
    Task(
        name="play-text", format=Mask(), data=_data("text"), languages=ALL, train_languages=ALL,
        metrics=("perplexity",), batch=128, max_length=64,
    ),
    Task(name="play-nli", format=NLI, data=_data("nli"), languages=ALL, metrics=("accuracy",), max_length=64),
    Task(name="play-same", format=PARAPHRASE, data=_data("paraphrase"), languages=ALL, metrics=("accuracy",),
         max_length=64),
    Task(name="play-choice", format=Choose(), data=_data("choice"), languages=ALL, metrics=("accuracy",),
         max_length=64),
    Task(
        name="play-pos", format=UPOS, data=_data("pos"), languages=ALL, metrics=("chunk_f1", "token_accuracy"),
        max_length=64,
    ),
    Task(name="play-ner", format=NER, data=_data("ner"), languages=ALL, metrics=("chunk_f1",), max_length=64),
    Task(
        name="play-questions", format=QA, data=_data("questions", stop="questions/dev"), languages=ALL,
        metrics=F1_EM, max_length=128,
    ),
    Task(
        name="play-passages", format=QA, languages=ALL, metrics=("mlqa_f1_em", "mlqa_f1", "mlqa_em"),
        data=_data("passages", train="questions/train", stop="questions/dev"), max_length=128,
    ),
    Task(name="play-facts", format=QA, data=_data("facts"), languages=ALL, metrics=F1_EM, max_length=128),
    Task(
        name="play-maybe", format=Span(no_answer=True), data=_data("maybe"), languages=ALL,
        metrics=("squad2_f1_em", "squad2_f1", "squad2_em"), max_length=128,
    ),
    Task(
        name="play-mined", format=Retrieve(find="mined"), data=_data("mined"), languages=FOREIGN, metrics=("pair_f1",),
        max_length=64,
    ),
    Task(name="play-parallel", format=Retrieve(), data=_data("parallel"), languages=FOREIGN, metrics=("accuracy",),
         max_length=64),
)  # fmt: skip
CATALOGUE = tuple(task.model_copy(update={"license": "Apache 2.0"}) for task in _TASKS)  # that of this package

TARGETS = tuple(task.name for task in CATALOGUE if task.format.head.kind != "vocabulary")
