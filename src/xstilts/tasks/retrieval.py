"""Tasks that find translations; they have no training data."""

from xstilts.formats import Retrieve
from xstilts.languages import codes
from xstilts.task import File, Source, Task

LANGUAGES = codes(
    "af ar bg bn de el es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr nl pt ru sw ta te th tl tr ur vi zh"
)


def _aligned(folder: str) -> tuple[File]:
    return (File(path=f"{folder}/tatoeba.{{lang3}}-eng.{{lang3}}", pair=f"{folder}/tatoeba.{{lang3}}-eng.eng"),)


CATALOGUE = (
    Task(
        name="tatoeba", format=Retrieve(), languages=LANGUAGES, metrics=("accuracy",), max_length=512,
        data={"test": Source(layouts=(_aligned("tatoeba"), _aligned("tatoeba/v1")))},
        license="CC BY 2.0 FR", url="https://github.com/facebookresearch/LASER",
        note="1,000 pairs a language at most; the score depends much on the layer that is pooled",
    ),
)  # fmt: skip
