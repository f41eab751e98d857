"""Tasks that label a pair of sentences."""

from xstilts.formats import Classify
from xstilts.languages import codes
from xstilts.task import File, Source, Task

NLI = Classify(
    labels=("contradiction", "entailment", "neutral"), spellings={"contradictory": "contradiction"}, drop=("-",)
)
"""jiant's order of the classes; XNLI's translated MNLI says `contradictory`, and `-` marks pairs without agreement."""

_JSONL = {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"}


def _split(*paths: str | File) -> Source:
    """The first of several places for the same rows."""
    files = [File(path=path) if isinstance(path, str) else path for path in paths]
    return Source(layouts=tuple((file,) for file in files))


MNLI_TRAIN = _split(
    File(path="multinli_1.0/multinli_1.0_train.jsonl", columns=_JSONL),
    "xnli/train-en.tsv",
    File(path="MNLI/train.tsv", columns=_JSONL),
)
MNLI_DEV = _split(File(path="multinli_1.0/multinli_1.0_dev_matched.jsonl", columns=_JSONL), "nli_small/mnli.dev.csv")

CATALOGUE = (
    Task(
        name="mnli", format=NLI, data={"train": MNLI_TRAIN, "dev": MNLI_DEV},
        metrics=("accuracy",), batch=24, epochs=2, license="OANC and others (see paper)",
        url="https://cims.nyu.edu/~sbowman/multinli/",
        note="dev is the matched part of the original, or all of it in the packed CSV",
    ),
    Task(
        name="snli", format=NLI,
        data={s: _split(*(File(path=f"{d}/snli_1.0_{s}.jsonl", columns=_JSONL) for d in ("snli", "snli_1.0")))
              for s in ("train", "dev", "test")},
        metrics=("accuracy",), batch=24, epochs=2, license="CC BY-SA 4.0",
        url="https://nlp.stanford.edu/projects/snli/", note="pairs without agreement (label -) are left out",
    ),
    Task(
        name="xnli", format=NLI,
        data={"train": MNLI_TRAIN, "dev": _split("xnli/dev-{lang}.tsv"), "test": _split("xnli/test-{lang}.tsv")},
        languages=codes("ar bg de el en es fr hi ru sw th tr ur vi zh"), metrics=("accuracy",), batch=4, epochs=2,
        license="CC BY-NC 4.0", url="https://github.com/facebookresearch/XNLI", note="trains on English MNLI",
    ),
)  # fmt: skip
