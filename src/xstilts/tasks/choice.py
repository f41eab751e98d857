"""Multiple-choice tasks: choose among endings or answers."""

from xstilts.formats import Choose
from xstilts.languages import codes
from xstilts.tasks.shorthand import either, hub
from xstilts.tasks.source import File, Source
from xstilts.tasks.task import Task

_COSMOS = Choose(context=("context", "question"), endings=("answer0", "answer1", "answer2", "answer3"))
_SIQA = Choose(context=("context", "question"), endings=("answerA", "answerB", "answerC"), answers=codes("A B C"))
_CSQA = Choose(context=("question",), endings=("choices",), answers=codes("A B C D E"))
COPA = Choose(
    context=("premise", "question"),
    endings=("choice1", "choice2"),
    spellings={"question": {"cause": "What was the cause of this?", "effect": "What happened as a result?"}},
)
"""COPA's two kinds of question as English sentences, in every language; the wording is ours."""

_NESTED = {"question": "question.stem", "choices": "question.choices", "label": "answerKey"}
COPA_TRAIN = either("COPA/train.jsonl", "xcopa/train.en.jsonl", "copa_en/train.en.jsonl")
COPA_DEV = either("COPA/val.jsonl", "xcopa/val.en.jsonl", "copa_en/val.en.jsonl")


def _hellaswag(split: str, name: str) -> Source:
    cleaned = File(path=f"hellaswag/hellaswag_{name}.from_text.jsonl", columns={"ctx_a": "ctx"})
    return either(f"hellaswag/hellaswag_{name}.jsonl", hub("Rowan/hellaswag/data", split), cleaned)


def _csqa(split: str) -> Source:
    original = File(path=f"commonsenseqa/{split}_rand_split.jsonl", columns=_NESTED)
    return either(original, hub("tau/commonsense_qa/data", split, columns={"label": "answerKey"}))


def _cosmos(name: str) -> Source:
    return either(f"cosmosqa/{name}.csv", f"cosmosqa/{name}.jsonl")


def _siqa(name: str) -> Source:
    paths = f"siqa/socialIQa_v1.4_{name}.jsonl", f"siqa/socialIQa_v1.4/socialIQa_v1.4_{name}.jsonl"
    return either(*(File(path=path, columns={"label": "correct"}) for path in paths))


def _xcopa(split: str, name: str) -> Source:
    paths = f"xcopa/{name}.{{lang}}.jsonl", f"xcopa/data/{{lang}}/{name}.{{lang}}.jsonl"
    return either(*paths, hub("cambridgeltl/xcopa/{lang}", split))


CATALOGUE = (
    Task(
        name="hellaswag", format=Choose(context=("ctx_a",), stem=("ctx_b",)), metrics=("accuracy",), batch=24, epochs=7,
        data={"train": _hellaswag("train", "train"), "dev": _hellaswag("dev", "val")},
        license="MIT", url="https://rowanzellers.com/hellaswag/",
        note="the wrong endings were generated, and selected to fool BERT",
    ),
    Task(
        name="cosmosqa", format=_COSMOS, metrics=("accuracy",), batch=4, epochs=15,
        data={"train": _cosmos("train"), "dev": _cosmos("valid"), "test": _cosmos("test")},
        license="CC BY 4.0", url="https://wilburone.github.io/cosmos/",
        note="the published dev set has 2,985 questions, not the 3,000 that the paper gives",
    ),
    Task(
        name="commonsenseqa", format=_CSQA, metrics=("accuracy",), batch=4, epochs=10,
        data={"train": _csqa("train"), "dev": _csqa("dev")},
        license="MIT", url="https://www.tau-nlp.sites.tau.ac.il/commonsenseqa",
        note="version 1.11, random split; its test set has no labels",
    ),
    Task(
        name="siqa", format=_SIQA, metrics=("accuracy",), batch=32, epochs=5,
        data={"train": _siqa("trn"), "dev": _siqa("dev"), "test": _siqa("tst")},
        license="CC BY 4.0", url="https://maartensap.com/social-iqa/", note="batch and epochs as in XTREME-R",
    ),
    Task(
        name="copa", format=COPA, metrics=("accuracy",), batch=32, epochs=5,
        data={"train": COPA_TRAIN, "dev": COPA_DEV, "test": either("copa_en/test.en.jsonl", "COPA/test.jsonl")},
        license="BSD 2-Clause", url="https://people.ict.usc.edu/~gordon/copa.html",
        note="400 training examples; batch and epochs as in XTREME-R; the wording of the two questions is ours",
    ),
    Task(
        name="xcopa", format=COPA, metrics=("accuracy",), batch=32, epochs=5,
        languages=codes("et ht id it qu sw ta th tr vi zh"), license="CC BY 4.0",
        data={"train": COPA_TRAIN, "stop": COPA_DEV, "dev": _xcopa("dev", "val"), "test": _xcopa("test", "test")},
        url="https://github.com/cambridgeltl/xcopa",
        note="XTREME-R first trains on SIQA (in a phase before this one); the question is English in all languages",
    ),
)  # fmt: skip
