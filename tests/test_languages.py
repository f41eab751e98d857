"""The table of languages: groups, codes, suggestions, agreement with the published table."""

import pytest

from xstilts import languages
from xstilts.errors import UserError


def test_xtreme_has_forty_languages_and_xtreme_r_fifty():
    assert len(languages.XTREME) == 40
    assert len(languages.XTREME_R) == 50
    assert set(languages.XTREME) < set(languages.XTREME_R)


def test_codes_are_unique():
    assert len({language.code3 for language in languages.LANGUAGES.values()}) == 50


def test_a_language_has_name_family_script_and_wikipedia_size():
    arabic = languages.get("ar")
    assert (arabic.family, arabic.script, arabic.articles, arabic.tasks) == ("Afro-Asiatic", "Arabic", 1.02, 7)
    assert (arabic.diacritics, arabic.compounding, arabic.bound_words) == (True, False, True)
    assert (arabic.inflection, arabic.derivation) == (True, False)
    assert languages.get("wo").articles is None


@pytest.mark.parametrize(("given", "hint"), [("jpn", "write ja"), ("German", "write de"), ("swahilli", "mean 'sw'")])
def test_an_unknown_code_gets_a_suggestion(given, hint):
    with pytest.raises(UserError, match=hint):
        languages.get(given)


def test_the_table_s_three_letter_codes_and_names_mean_its_codes():
    for language in languages.LANGUAGES.values():
        assert {languages.as_code(x) for x in (language.code3, language.name, language.code)} == {language.code}


@pytest.mark.real
def test_the_table_agrees_with_the_published_one(shared):
    lines = (shared / "seeds/001_8f172c3231de26ea.txt").read_text(encoding="utf-8").split("\n")
    published = [row for line in lines[40:95] if len(row := line.split("\t")) == 11 and row[10].isdigit()]
    assert len(published) == 40
    for name, code, articles, script, family, *marks, tasks in published:
        language = languages.get({"iv": "jv"}.get(code, code))  # the scan reads jv as iv
        typology = (language.diacritics, language.compounding, language.bound_words)
        assert (language.name, language.family, language.script) == (name, family, script)
        assert (language.articles, language.tasks) == (float(articles), int(tasks))
        assert (*typology, language.inflection, language.derivation) == tuple(map(bool, marks))


@pytest.mark.real
def test_every_tatoeba_file_belongs_to_a_language(shared):
    known = {language.code3 for language in languages.LANGUAGES.values()}
    assert {path.suffix[1:] for path in (shared / "data/tatoeba").glob("tatoeba.*")} <= known
