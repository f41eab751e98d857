"""Prediction rows as a user reads them: own ids, probabilities and, on demand, the texts."""

import json
from pathlib import Path

import pytest

from conftest import SENTENCES, Files
from xstilts.model.trained import TrainedModel
from xstilts.store.rows import Prediction, read_rows

TASKS = """\
reviews:
  format: classify
  texts: [review]
  labels: [bad, good]
  languages: [en]
  data: {train: train.csv, dev: dev.csv, test: test.csv}
stories:
  format: choose
  languages: [en]
  data: {train: stories-train.jsonl, test: stories-test.jsonl}
words:
  format: tag
  languages: [en]
  data: {train: words-train.jsonl, test: words-test.jsonl}
"""


@pytest.fixture
def own(study: Files) -> Files:
    """A user's own reviews, some with an id, some with the same; stories with two or three endings; tagged words."""
    study.write("tasks.yaml", TASKS)
    study.edit("recipe.yaml", "each: [mine]", "each: [reviews]")
    study.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [reviews]")
    reviews = [f"{i % 5 or ''},{SENTENCES[i]!r},{('bad', 'good')[i % 2]}\n".replace("'", '"') for i in range(12)]
    for name, rows in (("train", reviews[:4]), ("dev", reviews[4:8]), ("test", reviews[8:])):
        study.write(f"{name}.csv", "id,review,label\n" + "".join(rows))
    return study


def predictions(study: Files) -> list[Prediction]:
    (path,) = study.out.glob("steps/*/predictions.jsonl")
    return read_rows(path, Prediction)


def test_classification_has_ids_and_probabilities(own: Files) -> None:
    """An id may be absent or occur twice, since a row is known by its index."""
    assert own.run().code == 0
    rows = predictions(own)
    assert [(row.split, row.index, row.id) for row in rows] == [
        *(("dev", 0, "4"), ("dev", 1, "1"), ("dev", 2, "1"), ("dev", 3, "2")),
        *(("test", 0, "3"), ("test", 1, "4"), ("test", 2, "2"), ("test", 3, "1")),
    ]
    for row in rows:
        assert row.probabilities and row.probabilities.keys() == {"bad", "good"} and row.text is None
        assert sum(row.probabilities.values()) == pytest.approx(1, abs=2e-4)
        assert row.probabilities[row.prediction] == max(row.probabilities.values())
    link = own.out / "best" / "tiny" / "reviews.predictions.jsonl"
    assert read_rows(link, Prediction) == rows and TrainedModel.load(link.with_name("reviews")).heads


def test_multiple_choice_has_a_probability_for_each_ending_and_tags_have_none(own: Files) -> None:
    endings = [[SENTENCES[j] for j in range(i + 1, i + 3 + i % 2)] for i in range(6)]
    stories = [{"id": f"s{i}", "context": SENTENCES[i], "endings": x, "label": 1} for i, x in enumerate(endings)]
    words = [text.split() for text in SENTENCES]
    tagged = [{"id": 70 + i, "words": x, "tags": ["Y", *"X" * (len(x) - 1)]} for i, x in enumerate(words)]
    for name, rows, count in (("stories", stories, 3), ("words", tagged, 10)):
        for split, part in (("train", rows[:count]), ("test", rows[count:])):
            own.write(f"{name}-{split}.jsonl", "".join(json.dumps(row) + "\n" for row in part))
    own.edit("recipe.yaml", "each: [reviews]", "each: [stories, words]")
    own.edit("recipe.yaml", "evaluate: [reviews]", "evaluate: [stories, words]")
    assert own.run("--with-text").code == 0
    found = {row.task: row for path in own.out.glob("steps/*/predictions.jsonl") for row in read_rows(path, Prediction)}
    story, sentence = found["stories"], found["words"]
    assert story.id == "s5" and story.probabilities and set(story.probabilities) == {"0", "1", "2"}
    assert story.probabilities[str(story.prediction)] == max(story.probabilities.values())
    assert story.text == [SENTENCES[5], *endings[5]]
    assert (sentence.id, sentence.probabilities, sentence.text) == (str(69 + len(SENTENCES)), None, words[-1])


def test_with_text_is_added_to_what_is_done_and_changes_nothing_else(own: Files, tmp_path: Path) -> None:
    def exported(name: str) -> dict[str, bytes]:
        result = own.call("report", own.out, "--format", "submission", "--to", tmp_path / name)
        assert result.code == 0, result.err
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        return {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files}

    assert own.run().code == 0
    rows, before, files = predictions(own), own.call("report", own.out).out, exported("before")
    result = own.run("--with-text")
    assert result.code == 0 and "[1/" not in result.err, "nothing is trained or scored again"
    assert [row.text for row in predictions(own)] == list(SENTENCES[4:12])
    assert [Prediction(**{**vars(row), "text": None}) for row in predictions(own)] == rows
    assert own.call("report", own.out).out == before and exported("after") == files
    assert own.run().code == 0 and predictions(own)[0].text, "it stays"


def test_rows_of_an_earlier_version_are_read(own: Files) -> None:
    row = {"task": "t", "language": "en", "split": "dev", "index": 0, "id": "0", "prediction": "a", "reference": None}
    path = own.write("old.jsonl", json.dumps(row) + "\n")
    assert read_rows(path, Prediction) == [Prediction(**row)] and Prediction(**row).probabilities is None
