"""How many examples the official files of each task have, to detect partial files and other editions.

Sources, in this order where they differ: the files as published, counted; "xtreme": the sizes that the Hub's card of
google/xtreme gives; "paper": Table 1 of Phang et al. (2020). `published/conflicts.csv` lists where Table 1 differs. An
example gets one prediction: a pair, a question, a query. Pairs without annotator agreement (`-`) do not count. Unknown
numbers are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from xstilts.languages import XTREME, codes
from xstilts.tasks.retrieval import TATOEBA

Counts: TypeAlias = dict[str, int | dict[str, int]]
"""Split to a number, the same for all languages, or to a number for each language."""


def _by_language(text: str) -> dict[str, int]:
    """Numbers by language, written `ar 909 bg 1115`."""
    words = text.split()
    return {code: int(number) for code, number in zip(words[::2], words[1::2], strict=True)}


def _same_except(number: int, languages: Iterable[str], others: Mapping[str, int]) -> dict[str, int]:
    return {**dict.fromkeys(languages, number), **others}


_MNLI = 392_702
_SQUAD = 87_599
_PANX = _same_except(10_000, XTREME, {**dict.fromkeys(codes("af bn hi kk ml mr ms sw ta te tl ur"), 1_000),
                                 **dict.fromkeys(codes("jv my yo"), 100)})  # fmt: skip

COUNTS: dict[str, Counts] = {
    # paper; dev is 9,842 of SNLI, 9,815 of MNLI (matched) and 3,200 of ANLI
    "anli-plus": {"train": 1_104_934, "dev": 22_857},
    # paper for train; dev_matched without `-` (the paper's 20,000 are both dev files, with `-`)
    "mnli": {"train": _MNLI, "dev": 9_815},
    # train: the paper's ANLI+ without MNLI and ANLI; dev, test: the files
    "snli": {"train": 549_367, "dev": 9_842, "test": 9_824},
    # Nie et al. (2020), Table 2: the three rounds together
    "anli": {"train": 162_865, "dev": 3_200, "test": 3_200},
    "qqp": {"train": 363_846, "dev": 40_430},  # paper
    "squad1": {"train": _SQUAD, "dev": 10_570},  # paper; xtreme
    "squad2": {"train": 130_319, "dev": 11_873},  # paper
    "hellaswag": {"train": 39_905, "dev": 10_042},  # paper
    "ccg": {"train": 38_015, "dev": 5_484},  # paper
    # the files for dev, the Hub's card of allenai/cosmos_qa for train (the paper has 25,588 and 3,000)
    "cosmosqa": {"train": 25_262, "dev": 2_985},
    "commonsenseqa": {"train": 9_741, "dev": 1_221},  # paper; the files
    "siqa": {"train": 33_410, "dev": 1_954, "test": 2_224},  # train: the Hub's card of allenai/social_i_qa; the files
    "copa": {"train": 400, "dev": 100, "test": 500},  # the files
    "xnli": {"train": _MNLI, "stop": 9_815, "dev": 2_490, "test": 5_010},  # paper; the files
    "pawsx": {"train": 49_401, "dev": 2_000, "test": 2_000},  # paper; the files
    # dev: the files, eu and hu from xtreme; test: XTREME's sentences; de with 1,922 of LIT, which the paper lacks
    "udpos": {
        "train": 21_253,
        "dev": _by_language(
            "af 194 ar 909 bg 1115 de 19233 el 403 en 3974 es 3054 et 3125 eu 1798 fa 599 fi 3239 fr 2903 he 484 "
            "hi 1659 hu 441 id 559 it 2278 ja 511 ko 3016 mr 46 nl 1394 pt 1770 ru 8108 ta 80 te 131 tr 988 ur 552 "
            "vi 800 zh 1000"
        ),
        "test": _by_language(
            "af 425 ar 1680 bg 1116 de 22358 el 456 en 5440 es 3147 et 3760 eu 1799 fa 600 fi 4422 fr 4997 he 491 "
            "hi 2684 hu 449 id 1557 it 3518 ja 2372 kk 1047 ko 4276 mr 47 nl 1471 pt 2681 ru 8976 ta 120 te 146 "
            "th 1000 tl 55 tr 4785 ur 535 vi 800 yo 100 zh 3455"
        ),
    },
    "panx": {"train": 20_000, "dev": _PANX, "test": _PANX},  # xtreme; the files
    "xquad": {"train": _SQUAD, "test": 1_190},  # paper; the files
    # xtreme; the files for dev
    "mlqa": {
        "train": _SQUAD,
        "dev": _by_language("ar 517 de 512 en 1148 es 500 hi 507 vi 511 zh 504"),
        "test": _by_language("ar 5335 de 4517 en 11590 es 5253 hi 4918 vi 5495 zh 5137"),
    },
    # the files; te is xtreme's 5,077 minus the other languages
    "tydiqa": {
        "train": 3_696,
        "test": _by_language("ar 921 bn 113 en 440 fi 782 id 565 ko 276 ru 812 sw 499 te 669"),
    },
    "bucc2018": {"dev": {"zh": 8_624}},  # the files
    # the files
    "tatoeba": {
        "test": _same_except(1_000, TATOEBA, _by_language("jv 205 ka 746 kk 575 ml 687 sw 390 ta 307 te 234 th 548"))
    },
    "xcopa": {"train": 400, "dev": 100, "test": 500},  # the files
    "lareqa": {"test": 1_190},  # the files
    # mentions, from the data set's own page (edition 20220518)
    "mewslix": {
        "dev": _by_language("ar 318 de 326 en 316 es 311 fa 72 ja 310 pl 304 ro 145 ta 312 tr 262 uk 315"),
        "test": _by_language("ar 1501 de 1551 en 1490 es 1552 fa 458 ja 1519 pl 1562 ro 672 ta 1567 tr 1215 uk 1537"),
    },
}  # fmt: skip
"""Task to split to the number of examples."""


def official_count(task: str, split: str, language: str) -> int | None:
    """How many examples the official files have; None if unknown.

    >>> [official_count(task, "test", "de") for task in ("mlqa", "xquad")], official_count("mlqa", "test", "fr")
    ([4517, 1190], None)
    """
    number = COUNTS.get(task, {}).get(split)
    return number.get(language) if isinstance(number, dict) else number
