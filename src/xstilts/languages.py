"""Facts about each language: codes, name, family, script, Wikipedia size, typology.

The forty languages of XTREME are Table 1 of its appendix (Hu et al., 2020) as published, including unusual scripts:
Javanese and Tagalog are Brahmic, Kazakh and Yoruba Arabic, though their text in the data sets is mostly Latin or
Cyrillic. Basque and Korean are families of their own. The ten languages that XTREME-R adds are not in that table: their
Wikipedia size, typology and number of data sets are None.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
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


_SPELLINGS = """
aa aar, ab abk, ae ave, af afr, ak aka, am amh, an arg, ar ara arb, as asm, av ava, ay aym, az aze azj, ba bak, be
bel, bg bul, bh bih, bi bis, bm bam, bn ben, bo bod tib, br bre, bs bos, ca cat, ce che, ch cha, co cos, cr cre, cs
ces cze, cu chu, cv chv, cy cym wel, da dan, de deu ger, dv div, dz dzo, ee ewe, el ell gre, en eng, eo epo, es spa,
et est ekk, eu eus baq, fa fas per pes, ff ful, fi fin, fj fij, fo fao, fr fra fre, fy fry, ga gle, gd gla, gl glg, gn
grn, gu guj, gv glv, ha hau, he heb iw, hi hin, ho hmo, hr hrv, ht hat, hu hun, hy hye arm, hz her, ia ina, id ind in,
ie ile, ig ibo, ii iii, ik ipk, io ido, is isl ice, it ita, iu iku, ja jpn jp, jv jav jw, ka kat geo, kg kon, ki kik,
kj kua, kk kaz, kl kal, km khm, kn kan, ko kor, kr kau, ks kas, ku kur, kv kom, kw cor, ky kir, la lat, lb ltz, lg
lug, li lim, ln lin, lo lao, lt lit, lu lub, lv lav lvs, mg mlg, mh mah, mi mri mao, mk mkd mac, ml mal, mn mon khk,
mr mar, ms msa may zsm, mt mlt, my mya bur, na nau, nb nob, nd nde, ne nep npi, ng ndo, nl nld dut, nn nno, no nor, nr
nbl, nv nav, ny nya, oc oci, oj oji, om orm, or ori ory, os oss, pa pan, pi pli, pl pol, ps pus, pt por, qu que, rm
roh, rn run, ro ron rum mo, ru rus, rw kin, sa san, sc srd, sd snd, se sme, sg sag, si sin, sk slk slo, sl slv, sm
smo, sn sna, so som, sq sqi alb, sr srp, ss ssw, st sot, su sun, sv swe, sw swa swh, ta tam, te tel, tg tgk, th tha,
ti tir, tk tuk, tl tgl, tn tsn, to ton, tr tur, ts tso, tt tat, tw twi, ty tah, ug uig, uk ukr ua, ur urd, uz uzb uzn,
ve ven, vi vie vn, vo vol, wa wln, wo wol, xh xho, yi yid ji, yo yor, za zha, zh zho chi cmn cn, zu zul
"""
"""The ISO 639-1 codes, each with its ISO 639-2 and 639-3 codes and with wrong or withdrawn ones that people write."""

_CODES: dict[str, str] = {
    **{spelling: code for code, *others in map(str.split, _SPELLINGS.split(",")) for spelling in others},
    **{language.name.lower(): language.code for language in LANGUAGES.values()},
    **{"chinese": "zh", "farsi": "fa", "filipino": "tl"},
}
"""The code that each other spelling means."""


def get(code: str) -> Language:
    """Return the language with an ISO 639-1 code, which may be followed by a region or script.

    Raises:
        UserError: unknown code; for a name or three-letter code, suggests the right code.

    >>> get("fa").name
    'Persian'
    """
    if language := find(code):
        return language
    raise UserError(f"unknown language '{code}'", hint=hint(code))


def find(code: str) -> Language | None:
    """The language of a code, which may be followed by a region or script; None if it is not in the table.

    >>> find("pt-BR").name
    'Portuguese'
    """
    return LANGUAGES.get(base(code))


def code3(code: str) -> str:
    """The ISO 639-3 code of a language; the code itself if it is not in the table.

    >>> code3("zh"), code3("pt-BR"), code3("xyz")
    ('cmn', 'por', 'xyz')
    """
    known = find(code)
    return known.code3 if known else code


def articles(code: str) -> float | None:
    """The millions of articles in a language's Wikipedia, as in XTREME's Table 1; None if unknown.

    >>> articles("sw"), articles("uk"), articles("qaa")
    (0.05, None, None)
    """
    language = find(code)
    return language.articles if language else None


def base(code: str) -> str:
    """The code without region and script: `zh` for zh_TW and zh-Hant."""
    return re.split("[-_]", code)[0]


def spellings(code: str) -> set[str]:
    """Other spellings of a code in file names, in lower case: `deu`, `ger` and `german` for de."""
    return {code.lower(), *(spelling for spelling, meant in _CODES.items() if meant == code)}


def titled(code: str) -> str:
    """The code, with the language's name if it is known.

    >>> titled("sw"), titled("qaa")
    ('sw Swahili', 'qaa')
    """
    return f"{code} {language.name}" if (language := find(code)) else code


def hint(text: str) -> str:
    """Suggest the code for a name, a three-letter code or a misspelling.

    >>> hint("german"), hint("ger"), hint("zho_TW"), hint("swahilli")
    ('write de', 'write de', 'write zh_TW', "did you mean 'sw'?")
    """
    if (code := as_code(text)) != text:
        return f"write {code}"
    codes = {**_CODES, **{code: code for code in LANGUAGES}}
    close = difflib.get_close_matches(text.lower(), codes, n=1, cutoff=0.75)
    return f"did you mean '{codes[close[0]]}'?" if close else nearest(text, LANGUAGES)


def among(text: str, known: Collection[str]) -> str:
    """Suggest one of the known codes.

    >>> among("deu", ["de", "en"]), among("ed", ["de", "en"])
    ('write de', 'known: de, en')
    """
    return f"write {code}" if (code := as_code(text)) in known else nearest(text, known)


def as_code(text: str) -> str:
    """The code that a spelling of a language means; the text itself if none is known.

    >>> [as_code(text) for text in ("ger", "deu", "EN", "English", "iw", "zho_Hans", "pt-BR", "qaa")]
    ['de', 'de', 'en', 'en', 'he', 'zh_Hans', 'pt-BR', 'qaa']
    """
    name = base(text).lower()
    code = _CODES.get(name, name) + text[len(name) :]
    return code if well_formed(code) else text


def named_by(word: str) -> str:
    """The code of the language that a word names, such as a part of a file's name; empty if it names none.

    >>> named_by("deu"), named_by("German"), named_by("zh_TW"), named_by("qaa"), named_by("reviews")
    ('de', 'de', 'zh_TW', 'qaa', '')
    """
    code = as_code(word)
    known = base(code) in LANGUAGES or base(code) in _CODES.values()
    return code if known or re.fullmatch("q[a-t][a-z]", code) else ""


def well_formed(code: str) -> bool:
    """Whether a code has the form of a BCP 47 language tag, where `_` may stand for `-`.

    The language may be unknown; `qaa` to `qtz` are for private use.

    >>> [well_formed(code) for code in ("en", "qaa", "zh-Hant", "zh_TW", "english", "EN")]
    [True, True, True, True, False, False]
    """
    return re.fullmatch(r"[a-z]{2,3}([-_][A-Za-z0-9]{2,8})*", code) is not None


def codes(text: str) -> tuple[str, ...]:
    """Split codes at spaces.

    >>> codes("af ar")
    ('af', 'ar')
    """
    return tuple(text.split())


ENGLISH = "en"
"""The default language of texts."""
