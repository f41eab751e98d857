"""The playground's tasks: a small made-up world, told in made-up languages; nothing to download."""

from xstilts import playground
from xstilts.formats import Classify, Mask, Retrieve
from xstilts.task import Source, Task
from xstilts.tasks.pairs import NLI
from xstilts.tasks.tagging import ENTITIES, UPOS

ALL = playground.LANGUAGES
OTHERS = tuple(language for language in ALL if language != "en")
SAME = Classify(labels=("0", "1"), texts=("sentence1", "sentence2"))


def _data(kind: str) -> dict[str, Source]:
    return {
        split: Source.model_validate(f"playground:{kind}/{split}")
        for split in playground.splits(kind, "en" if kind != "parallel" else OTHERS[0])
    }


CATALOGUE = (
    Task(
        name="play-text",
        format=Mask(),
        data=_data("text"),
        languages=ALL,
        train_languages=ALL,
        metrics=("perplexity",),
        batch=128,
        max_length=64,
    ),
    Task(name="play-nli", format=NLI, data=_data("nli"), languages=ALL, metrics=("accuracy",), max_length=64),
    Task(name="play-same", format=SAME, data=_data("paraphrase"), languages=ALL, metrics=("accuracy",), max_length=64),
    Task(
        name="play-pos",
        format=UPOS,
        data=_data("pos"),
        languages=ALL,
        metrics=("chunk_f1", "token_accuracy"),
        max_length=64,
    ),
    Task(name="play-ner", format=ENTITIES, data=_data("ner"), languages=ALL, metrics=("chunk_f1",), max_length=64),
    Task(
        name="play-parallel",
        format=Retrieve(),
        data=_data("parallel"),
        languages=OTHERS,
        metrics=("accuracy",),
        max_length=64,
    ),
)

TARGETS = ("play-nli", "play-same", "play-pos", "play-ner", "play-parallel")
