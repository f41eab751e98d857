"""Translate-test: a test set in the training language, whose answers are taken back to the original texts."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Files
from xstilts.store.rows import Prediction, read_rows
from xstilts.tasks.user_tasks import with_user_tasks

PROGRAM = """\
import re, sys
words = dict(pair.split("=") for pair in "molino=mill cerró=closed fue=was el=the río=river rojo=red en=in".split())
if sys.argv[1] == "en":
    words = {english: spanish for spanish, english in words.items()}
words |= {"puente": "", "bridge": "viaducto"}
for line in sys.stdin:
    text = re.sub(r"\\w+", lambda hit: words.get(hit[0].lower(), hit[0]), line)
    print("" if "secreto" in line else re.sub(" +", " ", text).strip())
"""
"""Translates word by word between Spanish and English. It loses the bridge, and whole lines with a secret."""

CONTEXT = "El molino rojo cerró en 1894 . El río fue Tajo . Puente"
SPANISH = [
    ("q1", "Qué cerró en 1894 ?", "molino rojo"),
    ("q2", "Qué fue rojo ?", "Puente"),
    ("q3", "Qué secreto fue ?", "Tajo"),
]
ENGLISH = [("e1", "What closed in 1894 ?", "mill red"), ("e2", "What was red ?", "the river")]
ENGLISH_CONTEXT = "the mill red closed in 1894 . the river was Tajo ."


def squad(context: str, questions: list[tuple[str, str, str]]) -> str:
    """A file in SQuAD's layout."""
    qas = [
        {"id": id, "question": question, "answers": [{"text": answer, "answer_start": context.index(answer)}]}
        for id, question, answer in questions
    ]
    return json.dumps({"data": [{"title": "t", "paragraphs": [{"context": context, "qas": qas}]}]})


@pytest.fixture
def program(tmp_path: Path) -> str:
    (tmp_path / "words.py").write_text(PROGRAM, encoding="utf-8")
    return f"{sys.executable} {tmp_path}/words.py {{from}} {{to}}"


@pytest.fixture
def questions(study: Files, program: str, xstilts: Any) -> Files:
    """A study of English questions whose Spanish test set is in English."""
    study.write("train.json", squad(ENGLISH_CONTEXT, ENGLISH))
    study.write("test-es.json", squad(CONTEXT, SPANISH))
    study.write(
        "tasks.yaml", 'mine: {format: span, languages: [es], data: {train: train.json, test: "test-{lang}.json"}}\n'
    )
    translated = xstilts(
        "translate", "mine", "--use", study.folder / "tasks.yaml", "--from", "es", "--to", "en", "--engine", "command",
        "--command", program, "--out", study.folder / "out-en",
    )  # fmt: skip
    assert translated.code == 0, translated.err
    study.edit("recipe.yaml", "[tasks.yaml]", "[tasks.yaml, out-en/mine.yaml]")
    study.edit("recipe.yaml", "each: [mine]", "each: [mine, mine-to-en, mine-to-en-and-back]")
    study.edit("recipe.yaml", "[pairs, mine]", "[mine, mine-to-en, mine-to-en-and-back]")
    study.edit("recipe.yaml", "keep: all", f"trust_local_code: [{sys.executable}]")
    return study


def by_task(out: Path) -> dict[str, list[Prediction]]:
    paths = out.glob("steps/*/predictions.jsonl")
    found = [read_rows(path, Prediction) for path in paths]
    return {rows[0].task: rows for rows in found}


def test_a_test_set_keeps_all_its_questions_and_their_originals(questions: Files) -> None:
    """One lost its answer, one its whole question: neither is easier for a model than the others."""
    articles = json.loads((questions.folder / "out-en/mine/test-es.json").read_text(encoding="utf-8"))["data"]
    rows = {qa["id"]: (qa, paragraph["context"]) for article in articles for paragraph in article["paragraphs"]
            for qa in paragraph["qas"]}  # fmt: skip
    assert [*rows] == ["q1", "q2", "q3"]
    assert [rows[id][0]["answered"] for id in rows] == ["yes", "no", "no"]
    assert rows["q1"][0]["answers"][0]["text"] == "mill red" and "mill red closed in 1894" in rows["q1"][1]
    assert rows["q3"][0]["question"] == "Qué secreto fue ?", "the engine returned nothing"
    assert {rows[id][0]["original"]["context"] for id in rows} == {CONTEXT}
    tasks = with_user_tasks([questions.folder / "tasks.yaml", questions.folder / "out-en/mine.yaml"])
    assert tasks["mine-to-en"].translate_back is None and tasks["mine-to-en-and-back"].translate_back


def test_answers_are_scored_in_both_languages(questions: Files) -> None:
    """The encoder and its training are the same; the English score counts the answers that were found in English."""
    result = questions.run()
    assert result.code == 0, result.err
    assert result.err.count("target: mine") == 2, "one training serves all three"
    rows = by_task(questions.out)
    assert {name: [row.id for row in of] for name, of in rows.items()} == {
        "mine": ["q1", "q2", "q3"], "mine-to-en": ["q1"], "mine-to-en-and-back": ["q1", "q2", "q3"],
    }  # fmt: skip
    assert [row.reference for row in rows["mine-to-en"]] == [["mill red"]]
    back = rows["mine-to-en-and-back"]
    assert [row.reference for row in back] == [["molino rojo"], ["Puente"], ["Tajo"]]
    assert all(row.prediction in CONTEXT for row in back), "each is a part of the Spanish text, or empty"
    assert "answers not found in the original: es" in result.err
    assert "mine-to-en-and-back: answers not found in the original: es" in questions.call("report", questions.out).out


def test_an_answer_without_a_match_is_empty(tmp_path: Path, program: str) -> None:
    from xstilts.execution.answers_back import AnswersBack
    from xstilts.formats.span import Question
    from xstilts.tasks import TASKS
    from xstilts.tasks.task import TranslateBack
    from xstilts.utils.progress import Progress

    task = TASKS["xquad"].model_copy(update={"translate_back": TranslateBack(command=program)})
    original = Question("q", "?", CONTEXT, ("molino rojo",))
    examples = [Question("q", "?", ENGLISH_CONTEXT, None, original=original)] * 4
    back = AnswersBack(task, "es", tmp_path, Progress())
    probabilities = [{"mill": 0.5, "the mill": 0.25, "bridge": 0.25}, None, None, None]
    answers, summed = back.translate(examples, ["mill", "Tajo", "bridge", ""], probabilities)
    assert answers == ["molino", "Tajo", "", ""]
    assert summed == [{"molino": 0.5, "El molino": 0.25, "": 0.25}, None, None, None]
    assert (back.answers, back.not_found) == (3, 1)


@pytest.mark.parametrize(
    ("file", "old", "new", "pieces"),
    [
        ("recipe.yaml", f"trust_local_code: [{sys.executable}]", "", ["runs the program", "trust_local_code: ["]),
        ("out-en/mine.yaml", "{command: '" + sys.executable, "{command: 'nowhere-at-all", ["nowhere-at-all"]),
        ("out-en/mine.yaml", "{command:", "{model: a/b, command:", ["needs either a command or a model"]),
        ("recipe.yaml", "use: [", "use: [more.yaml, ", ["translate_back is for answers, which the format classify"]),
    ],
)  # fmt: skip
def test_an_engine_that_cannot_run_is_refused_before_the_training(
    questions: Files, file: str, old: str, new: str, pieces: list[str]
) -> None:
    questions.write("more.yaml", "nli: {like: xnli, translate_back: {command: cat}}\n")
    questions.edit(file, old, new)
    questions.refused(*pieces)


def test_a_test_set_without_originals_cannot_be_taken_back(questions: Files) -> None:
    questions.write("out-en/mine/test-es.json", squad(ENGLISH_CONTEXT, ENGLISH))
    questions.edit("recipe.yaml", "evaluate: [mine, mine-to-en, ", "evaluate: [")
    questions.edit("recipe.yaml", "each: [mine, mine-to-en, ", "each: [")
    result = questions.run()
    assert result.code == 2 and "the question e1 has no `original`" in result.err, result.err


def test_english_answers_are_not_scored_by_spanish_rules(questions: Files) -> None:
    """MLQA removes the articles of the answers' language."""
    questions.edit("tasks.yaml", "format: span,", "format: span, metrics: [mlqa_f1_em, mlqa_f1],")
    command = f"{sys.executable} {questions.folder}/words.py {{from}} {{to}}"
    arguments = ("--from", "es", "--to", "en", "--engine", "command", "--command", command)
    used = ("--use", questions.folder / "tasks.yaml", "--out", questions.folder / "out-en")
    assert questions.call("translate", "mine", *arguments, *used).code == 0
    tasks = with_user_tasks([questions.folder / "tasks.yaml", questions.folder / "out-en/mine.yaml"])
    assert tasks["mine-to-en"].metrics == ("f1_em", "f1", "em")
    assert tasks["mine-to-en-and-back"].metrics == ("mlqa_f1_em", "mlqa_f1")
