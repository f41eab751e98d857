"""Tasks that tag the words of a sentence."""

from xstilts.formats import Tag
from xstilts.languages import XTREME, codes
from xstilts.task import File, Source, Split, Task

UPOS = Tag(labels=codes("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X"))
ENTITIES = Tag(labels=codes("B-LOC B-ORG B-PER I-LOC I-ORG I-PER O"))
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
POS_LANGUAGES = codes(
    "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh"
)


def _either(*paths: str) -> Source:
    return Source(layouts=tuple((File(path=path),) for path in paths))


CATALOGUE = (
    Task(
        name="udpos", format=UPOS, languages=POS_LANGUAGES, batch=32, epochs=10, metrics=("chunk_f1", "token_accuracy"),
        data={s: _either(f"udpos/{s}-{{lang}}.tsv", f"ud_conllu_r2.5/{{lang}}_*-ud-{s}.conllu",
                         f"ud-treebanks-v2.5/*/{{lang}}_*-ud-{s}.conllu") for s in SPLITS},
        license="Universal Dependencies 2.5, a licence for each treebank", url="http://hdl.handle.net/11234/1-3105",
        note="XTREME's F1 counts runs of equal tags as one chunk; no dev set in kk, th, tl, yo",
    ),
    Task(
        name="panx", format=ENTITIES, languages=XTREME, batch=32, epochs=10, metrics=("chunk_f1",),
        data={s: _either(f"panx/{s}-{{lang}}.tsv", f"panx/{{lang}}/{s}", f"panx_rahimi/{{lang}}/{s}") for s in SPLITS},
        license="ODC-BY (WikiANN)", url="https://github.com/afshinrahimi/mmner",
        note="the entities come from links of Wikipedia, not from annotators",
    ),
)  # fmt: skip
