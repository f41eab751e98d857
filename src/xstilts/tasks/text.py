"""Tasks of raw text, for masked language modelling."""

from xstilts.formats import Mask
from xstilts.languages import XTREME
from xstilts.tasks.source import Source
from xstilts.tasks.task import Task

CATALOGUE = (
    Task(
        name="masked-text", format=Mask(alpha=0.3, sentences=2_000_000), metrics=("perplexity",),
        batch=8, epochs=1,
        data={"train": Source.model_validate("mlm_text/{lang}.txt")}, languages=XTREME, train_languages=XTREME,
        note="one sentence per line; languages are sampled with alpha 0.3, at most two million sentences in all",
    ),
)  # fmt: skip
