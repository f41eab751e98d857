"""Facts about each language: codes, name, family, script, Wikipedia size, typology.

The forty languages of XTREME are Table 1 of its appendix (Hu et al., 2020) as published, including unusual scripts:
Javanese and Tagalog are Brahmic, Kazakh and Yoruba Arabic, though their text in the data sets is mostly Latin or
Cyrillic. Basque and Korean are families of their own. The ten languages that XTREME-R adds are not in that table: their
Wikipedia size, typology and number of data sets are None.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from xstilts.errors import UserError, nearest


@dataclass(frozen=True)
class Language:
    """One language, as in Table 1 of XTREME's appendix.

    `code` is ISO 639-1; `code3` is ISO 639-3 as in LASER's Tatoeba file names (fa is `pes`, zh `cmn`, sw `swh`).
    `articles` counts its Wikipedia's articles in millions; `tasks` counts XTREME's data sets with it, as
    printed; for eleven languages the data sets themselves have other counts (`published/conflicts.csv`).
    """

    code: str
    code3: str
    name: str
    family: str
    script: str
    articles: float | None = None
    diacritics: bool | None = None
    """Letters can have diacritics."""
    compounding: bool | None = None
    """Word compounds are common."""
    bound_words: bool | None = None
    """Function words attach to other words."""
    inflection: bool | None = None
    """Words are inflected for their grammatical meaning."""
    derivation: bool | None = None
    """One token can stand for a whole phrase or sentence."""
    tasks: int | None = None


def _row(
    code: str, code3: str, name: str, family: str, script: str, articles: float, marks: str, tasks: int
) -> Language:
    d, c, b, i, v = (mark != "-" for mark in marks)
    return Language(code, code3, name, family, script, articles, d, c, b, i, v, tasks)


# marks: D diacritics, C compounding, B bound words, I inflection, V derivation
_XTREME = (
    _row("af", "afr", "Afrikaans", "IE: Germanic", "Latin", 0.09, "-C---", 3),
    _row("ar", "ara", "Arabic", "Afro-Asiatic", "Arabic", 1.02, "D-BI-", 7),
    _row("eu", "eus", "Basque", "Basque", "Latin", 0.34, "D-BIV", 3),
    _row("bn", "ben", "Bengali", "IE: Indo-Aryan", "Brahmic", 0.08, "DCBIV", 3),
    _row("bg", "bul", "Bulgarian", "IE: Slavic", "Cyrillic", 0.26, "D-BI-", 4),
    _row("my", "mya", "Burmese", "Sino-Tibetan", "Brahmic", 0.05, "DC---", 1),
    _row("nl", "nld", "Dutch", "IE: Germanic", "Latin", 1.99, "-C---", 3),
    _row("en", "eng", "English", "IE: Germanic", "Latin", 5.98, "-----", 9),
    _row("et", "est", "Estonian", "Uralic", "Latin", 0.20, "DC-IV", 3),
    _row("fi", "fin", "Finnish", "Uralic", "Latin", 0.47, "---IV", 3),
    _row("fr", "fra", "French", "IE: Romance", "Latin", 2.16, "D-B--", 6),
    _row("ka", "kat", "Georgian", "Kartvelian", "Georgian", 0.13, "---IV", 2),
    _row("de", "deu", "German", "IE: Germanic", "Latin", 2.37, "-C-I-", 8),
    _row("el", "ell", "Greek", "IE: Greek", "Greek", 0.17, "DC-I-", 5),
    _row("he", "heb", "Hebrew", "Afro-Asiatic", "Hebrew", 0.25, "---I-", 3),
    _row("hi", "hin", "Hindi", "IE: Indo-Aryan", "Devanagari", 0.13, "DCBIV", 6),
    _row("hu", "hun", "Hungarian", "Uralic", "Latin", 0.46, "DC-IV", 4),
    _row("id", "ind", "Indonesian", "Austronesian", "Latin", 0.51, "--BIV", 4),
    _row("it", "ita", "Italian", "IE: Romance", "Latin", 1.57, "D-B--", 3),
    _row("ja", "jpn", "Japanese", "Japonic", "Ideograms", 1.18, "--BI-", 4),
    _row("jv", "jav", "Javanese", "Austronesian", "Brahmic", 0.06, "D-B--", 1),
    _row("kk", "kaz", "Kazakh", "Turkic", "Arabic", 0.23, "D--IV", 1),
    _row("ko", "kor", "Korean", "Koreanic", "Hangul", 0.47, "-C-IV", 5),
    _row("ms", "zsm", "Malay", "Austronesian", "Latin", 0.33, "--BI-", 2),
    _row("ml", "mal", "Malayalam", "Dravidian", "Brahmic", 0.07, "DCBI-", 2),
    _row("zh", "cmn", "Mandarin", "Sino-Tibetan", "Chinese ideograms", 1.09, "-C---", 8),
    _row("mr", "mar", "Marathi", "IE: Indo-Aryan", "Devanagari", 0.06, "--BI-", 3),
    _row("fa", "pes", "Persian", "IE: Iranian", "Perso-Arabic", 0.70, "-C---", 2),
    _row("pt", "por", "Portuguese", "IE: Romance", "Latin", 1.02, "D-B--", 3),
    _row("ru", "rus", "Russian", "IE: Slavic", "Cyrillic", 1.58, "---I-", 7),
    _row("es", "spa", "Spanish", "IE: Romance", "Latin", 1.56, "D-B--", 7),
    _row("sw", "swh", "Swahili", "Niger-Congo", "Latin", 0.05, "--BIV", 3),
    _row("tl", "tgl", "Tagalog", "Austronesian", "Brahmic", 0.08, "D-BI-", 1),
    _row("ta", "tam", "Tamil", "Dravidian", "Brahmic", 0.12, "DCBIV", 3),
    _row("te", "tel", "Telugu", "Dravidian", "Brahmic", 0.07, "DCBIV", 4),
    _row("th", "tha", "Thai", "Kra-Dai", "Brahmic", 0.13, "D----", 4),
    _row("tr", "tur", "Turkish", "Turkic", "Latin", 0.34, "DC-IV", 5),
    _row("ur", "urd", "Urdu", "IE: Indo-Aryan", "Perso-Arabic", 0.15, "DCBIV", 4),
    _row("vi", "vie", "Vietnamese", "Austro-Asiatic", "Latin", 1.24, "D----", 6),
    _row("yo", "yor", "Yoruba", "Niger-Congo", "Arabic", 0.03, "D----", 1),
)

_XTREME_R = (
    Language("az", "aze", "Azerbaijani", "Turkic", "Latin"),
    Language("gu", "guj", "Gujarati", "IE: Indo-Aryan", "Brahmic"),
    Language("ht", "hat", "Haitian Creole", "Creole", "Latin"),
    Language("lt", "lit", "Lithuanian", "IE: Baltic", "Latin"),
    Language("pa", "pan", "Punjabi", "IE: Indo-Aryan", "Brahmic"),
    Language("pl", "pol", "Polish", "IE: Slavic", "Latin"),
    Language("qu", "que", "Quechua", "Quechuan", "Latin"),
    Language("ro", "ron", "Romanian", "IE: Romance", "Latin"),
    Language("uk", "ukr", "Ukrainian", "IE: Slavic", "Cyrillic"),
    Language("wo", "wol", "Wolof", "Niger-Congo", "Latin"),
)

LANGUAGES: dict[str, Language] = {language.code: language for language in (*_XTREME, *_XTREME_R)}
"""All languages by code."""

XTREME: tuple[str, ...] = tuple(sorted(language.code for language in _XTREME))
"""The forty languages of XTREME."""

XTREME_R: tuple[str, ...] = tuple(sorted(LANGUAGES))
"""The fifty languages of XTREME-R (Ruder et al., 2021)."""


def get(code: str) -> Language:
    """Return the language with an ISO 639-1 code.

    Raises:
        UserError: unknown code; for a name or three-letter code, suggests the right code.

    >>> get("fa").name
    'Persian'
    """
    if code in LANGUAGES:
        return LANGUAGES[code]
    raise UserError(f"unknown language '{code}'", hint=hint(code))


def titled(code: str) -> str:
    """The code, with the language's name if it is known.

    >>> titled("sw"), titled("qaa")
    ('sw Swahili', 'qaa')
    """
    return f"{code} {LANGUAGES[code].name}" if code in LANGUAGES else code


def hint(text: str) -> str:
    """Suggest the code for a name, a three-letter code or a misspelling.

    >>> hint("german")
    "did you mean 'de'?"
    """
    codes = {name.lower(): each.code for each in LANGUAGES.values() for name in (each.code, each.code3, each.name)}
    close = difflib.get_close_matches(text.lower(), codes, n=1, cutoff=0.75)
    return f"did you mean '{codes[close[0]]}'?" if close else nearest(text, LANGUAGES)


def well_formed(code: str) -> bool:
    """Whether a code has the form of a BCP 47 language tag; it may be unknown (`qaa` to `qtz` are for private use).

    >>> [well_formed(code) for code in ("en", "qaa", "zh-Hant", "english", "EN")]
    [True, True, True, False, False]
    """
    return re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", code) is not None


def codes(text: str) -> tuple[str, ...]:
    """Split codes at spaces.

    >>> codes("af ar")
    ('af', 'ar')
    """
    return tuple(text.split())


ENGLISH = "en"
"""The default language of texts."""
