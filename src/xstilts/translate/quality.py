"""Quality: BLEU and chrF of translated rows against the same rows in another data folder, by sacrebleu."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from xstilts import languages
from xstilts.errors import DataError, UserError, counted
from xstilts.formats import Choose, Classify
from xstilts.formats.base import Format, Row
from xstilts.utils.models import Strict

_BY_CHARACTER = {"ja", "th", "lo", "km", "my", "yue", "wuu", "lzh"}
"""Languages without blanks between words for which sacrebleu has no tokenizer, or one that needs more packages."""
MAX_OTHER_LABELS = 0.05
"""The share of rows of a reference whose label may differ."""


class Quality(Strict):
    """BLEU and chrF of a set of translations, both from 0 to 100."""

    bleu: float
    chrf: float
    texts: int
    """How many texts were compared, each pair once."""
    signatures: tuple[str, str]
    """How sacrebleu computed them."""

    def __str__(self) -> str:
        return f"BLEU {self.bleu:.1f}, chrF {self.chrf:.1f} of {self.texts:,} texts"


def check_installed() -> None:
    """Check that sacrebleu is installed.

    Raises:
        UserError: it is not.
    """
    try:
        importlib.import_module("sacrebleu")
    except ImportError:
        hint = 'pip install "xstilts[mt]"'
        raise UserError("needs the package sacrebleu", where="--reference", hint=hint) from None


def measure(translations: Sequence[str], references: Sequence[str], language: str) -> Quality:
    """Compare translations with references, text by text.

    BLEU counts words; in Chinese characters and Latin words, in Japanese, Thai, Lao, Khmer and Burmese characters.

    Raises:
        UserError: sacrebleu is not installed, or there is nothing to compare.
    """
    check_installed()
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    pairs = dict.fromkeys(pair for pair in zip(translations, references, strict=True) if pair[1].strip())
    if not pairs:
        raise UserError("has no text to compare with", where="--reference")
    hypotheses, truths = map(list, zip(*pairs, strict=True))
    base = languages.base(language)
    bleu = BLEU(tokenize="zh" if base == "zh" else "char" if base in _BY_CHARACTER else "13a")
    chrf = CHRF()
    scores = [metric.corpus_score(hypotheses, [truths]).score for metric in (bleu, chrf)]
    return Quality(
        bleu=scores[0], chrf=scores[1], texts=len(pairs),
        signatures=(str(bleu.get_signature()), str(chrf.get_signature())),
    )  # fmt: skip


def check_same_rows(format: Format, rows: Sequence[Row], references: Sequence[Row]) -> int:
    """Check that reference rows are translations of rows: as many, with the same ids and labels.

    Returns how many labels differ: in PAWS-X up to 1.6 %. More than `MAX_OTHER_LABELS` of them are a mistake.

    Raises:
        DataError: they are not.
    """
    hint = "a reference has the same rows in the same order"
    if len(rows) != len(references):
        message = f"has {counted(len(references), 'row')}, but {len(rows):,} are to be translated"
        raise DataError(message, where=references[0].file if references else "--reference", hint=hint)
    other_labels = list[tuple[str, str]]()
    for row, reference in zip(rows, references, strict=True):
        for name, one, other in _same_in_all_languages(format, row, reference):
            if one != other:
                message = f"has the {name} {other}, but {row.where} has {one}"
                if name == "id":
                    raise DataError(message, where=reference.where, hint=hint)
                other_labels.append((message, reference.where))
    if len(other_labels) > MAX_OTHER_LABELS * len(rows):
        (message, where), *more = other_labels
        message += f", and {len(more):,} more like it" if more else ""
        raise DataError(message, where=where, hint=hint)
    return len(other_labels)


def compare_rows(
    format: Format, translated: Sequence[Mapping[str, Any] | None], references: Sequence[Row], language: str
) -> Quality:
    """Compare the texts of translated rows with those of reference rows; a row without a translation is left out.

    Raises:
        DataError: a row and its reference differ in the number of texts.
    """
    translations, truths = list[str](), list[str]()
    for values, reference in zip(translated, references, strict=True):
        if values is not None:
            translations += _texts(format, replace(reference, values=values))
            truths += _texts(format, reference)
        if len(translations) != len(truths):
            raise DataError("has another number of texts than its translation", where=reference.where)
    return measure(translations, truths, language)


def _same_in_all_languages(format: Format, row: Row, reference: Row) -> list[tuple[str, Any, Any]]:
    """What a row and its reference must share, as far as both have it: id and label."""
    shared = [("id", row.values.get("id"), reference.values.get("id"))]
    if isinstance(format, Classify | Choose):
        one, other = (format.reference(cast("Any", format.read(each)), 0) for each in (row, reference))
        shared.append(("label", one, other))
    return [(name, one, other) for name, one, other in shared if one is not None and other is not None]


def _texts(format: Format, row: Row) -> list[str]:
    texts = format.input_text(format.read(row))
    return [texts] if isinstance(texts, str) else list(texts)
