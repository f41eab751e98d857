"""Tasks that tag the words of a sentence."""

from xstilts.formats import Tag
from xstilts.languages import XTREME, codes
from xstilts.tasks.shorthand import SPLITS, either, hub
from xstilts.tasks.source import Source
from xstilts.tasks.task import Task

UPOS = Tag(labels=codes("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X"))
NER = Tag(labels=codes("B-LOC B-ORG B-PER I-LOC I-ORG I-PER O"))
POS_LANGUAGES = codes(
    "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh"
)
_HUB = {"words": "tokens", "tags": "ner_tags"}


def _panx(split: str) -> Source:
    paths = f"panx/{split}-{{lang}}.tsv", f"panx/{{lang}}/{split}", f"panx_rahimi/{{lang}}/{split}"
    classes = codes("O B-PER I-PER B-ORG I-ORG B-LOC I-LOC")
    return either(*paths, hub("google/xtreme/PAN-X.{lang}", split, columns=_HUB, classes=classes))


CATALOGUE = (
    Task(
        name="udpos", format=UPOS, languages=POS_LANGUAGES, more_languages=codes("lt pl ro uk wo"), batch=32, epochs=10,
        metrics=("chunk_f1", "token_accuracy"),
        data={s: either(f"udpos/{s}-{{lang}}.tsv", f"ud_conllu_r2.5/{{lang}}_*-ud-{s}.conllu",
                        f"ud-treebanks-v2.5/*/{{lang}}_*-ud-{s}.conllu") for s in SPLITS},
        license="Universal Dependencies 2.5, a licence for each treebank", url="http://hdl.handle.net/11234/1-3105",
        note="as in XTREME, a run of equal tags is one chunk for F1; no dev set in kk, th, tl, yo; XTREME-R has UD 2.7",
    ),
    Task(
        name="panx", format=NER, languages=XTREME, more_languages=codes("az gu lt pa pl qu ro uk"), batch=32,
        epochs=10, metrics=("chunk_f1",),
        data={s: _panx(s) for s in SPLITS},
        license="ODC-BY (WikiANN)", url="https://github.com/afshinrahimi/mmner",
        note="the entities come from Wikipedia links, not from annotators",
    ),
    Task(
        name="ccg", batch=24, epochs=15, metrics=("token_accuracy",),
        format=Tag(first_piece="written"),  # jiant's ccg.py finds a word's first character, also in the paper's recipes
        data={s: either(f"ccg/{s}.tsv") for s in SPLITS},
        license="LDC User Agreement (CCGbank, LDC2005T13)", url="https://catalog.ldc.upenn.edu/LDC2005T13",
        note="CCGbank is licensed: write the files yourself, a token, a tab and its supertag per line, a blank line "
             "after each sentence; the supertags are those of the training data (1,363 in the paper)",
    ),
)  # fmt: skip
