"""At which piece a word has its tag: a lone `▁` (literal), or the piece with its first character (written)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors, trainers

from conftest import SENTENCES, Files
from xstilts.formats import Tag
from xstilts.formats.base import Features, HeadOutputs
from xstilts.formats.tag import Tagged
from xstilts.metrics import METRICS
from xstilts.model.tokenizer import Tokenizer
from xstilts.model.trained import read_records
from xstilts.store.rows import Prediction, read_rows
from xstilts.study.load import read
from xstilts.study.plan import Plan, plan
from xstilts.study.recipe import Recipe
from xstilts.tasks import TASKS
from xstilts.tasks.user_tasks import from_yaml

LABELS = ("S-A", "B-C", "I-C", "O")
LITERAL, WRITTEN = Tag(labels=LABELS, first_piece="literal"), Tag(labels=LABELS)
WORDS = (*"猫睡在", "温暖", "的", "石墙", *"上。", "The", "cat", "sleeps", "\u200b", "猫" * 90, "Никто", "не", "знал")


def tokenizer() -> tokenizers.Tokenizer:
    """BPE that saw each Chinese character inside a sentence only, so that none is one piece with the blank's sign."""
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    made.train_from_iterator(SENTENCES, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return made


def sentence(words: tuple[str, ...]) -> Tagged:
    return Tagged(words, tuple(LABELS[i % len(LABELS)] for i in range(len(words))))


def tagged_tokens(format: Tag, example: Tagged, max_length: int = 64) -> Iterator[tuple[str, str]]:
    """Each piece that has a tag, with the tag."""
    pieces = Tokenizer(tokenizer(), max_length=max_length, unk_id=0)
    for window in format.features([example], pieces):
        for position, target in zip(window.positions, window.targets, strict=True):
            yield pieces.tokenizer.id_to_token(window.ids[position]), LABELS[target]


def test_literal_tags_a_lone_blank_sign_and_written_the_piece_after_it() -> None:
    words = ("猫", "石墙", "The", "。")
    assert list(tagged_tokens(LITERAL, sentence(words))) == [("▁", "S-A"), ("▁", "B-C"), ("▁T", "I-C"), ("▁", "O")]
    assert list(tagged_tokens(WRITTEN, sentence(words))) == [("猫", "S-A"), ("石", "B-C"), ("▁T", "I-C"), ("。", "O")]


def test_literal_is_the_rule_of_jiant_and_xtreme() -> None:
    """Each word is split by itself, its first piece has the label; a word without pieces, or with too many, is unk."""
    whole, example = tokenizer(), sentence(WORDS)
    rule = []
    for word, label in zip(example.words, example.tags, strict=True):
        pieces = whole.encode(word, add_special_tokens=False).tokens
        rule += [("<unk>" if not 0 < len(pieces) <= 62 else pieces[0], label)]
    assert list(tagged_tokens(LITERAL, example)) == rule
    assert sum(piece == "▁" for piece, _ in rule) > 8 and ("<unk>", LABELS[WORDS.index("猫" * 90) % 4]) in rule


def windows(format: Tag, max_length: int) -> list[Features]:
    pieces = Tokenizer(tokenizer(), max_length=max_length, unk_id=0)
    return list(format.features([sentence(WORDS), sentence(WORDS[:3])], pieces))


@pytest.mark.parametrize("format", [LITERAL, WRITTEN])
@pytest.mark.parametrize("max_length", [8, 16, 64])
def test_perfect_outputs_score_100_at_either_piece_and_in_windows(format: Tag, max_length: int) -> None:
    found = windows(format, max_length)
    assert len(found) > 2 * (max_length < 64) and max(len(window.ids) for window in found) <= max_length
    assert all(sorted({*window.positions}) == list(window.positions) for window in found), "no word shares a piece"
    outputs = HeadOutputs(
        np.array([window.example for window in found]), [np.array([(best, 1) for best in one.targets]) for one in found]
    )
    predictions = format.decode([0, 1], outputs, None)
    references = [list(sentence(words).tags or ()) for words in (WORDS, WORDS[:3])]
    assert predictions == references
    assert METRICS["chunk_f1"].score(references, predictions) == 100


def test_both_read_the_same_pieces() -> None:
    pairs = list(zip(windows(LITERAL, 16), windows(WRITTEN, 16), strict=True))
    assert all(one.ids == other.ids and one.targets == other.targets for one, other in pairs)
    assert any(one.positions != other.positions for one, other in pairs)


def pos_study(**more: Any) -> Recipe:
    each = ["udpos", "panx", "xnli"]
    phases = [{"name": "first", "choices": [[], ["ccg"]]}, {"name": "target", "each": each}]
    fields = {"name": "tags", "encoder": "some/encoder", "phases": phases, "evaluate": each, "seeds": [1]}
    return Recipe.model_validate(fields | more)


def first_pieces(made: Plan) -> dict[str, str]:
    """The `first_piece` of each tag task, trained or scored."""
    used = {part.task for step in made.steps.values() for part in step.parts} | {cell.task for cell in made.cells}
    formats = {name: made.tasks[name].format for name in used}
    return {name: format.first_piece for name, format in sorted(formats.items()) if isinstance(format, Tag)}


def test_a_recipe_sets_it_for_every_tag_task_that_does_not_name_its_own() -> None:
    plain, literal = plan(pos_study(), TASKS), plan(pos_study(first_piece="literal"), TASKS)
    assert first_pieces(plain) == {"ccg": "written", "panx": "written", "udpos": "written"}
    assert first_pieces(literal) == {"ccg": "written", "panx": "literal", "udpos": "literal"}, "jiant's CCG is written"
    same = {step.title for id, step in plain.steps.items() if id in literal.steps}
    assert same == {"first: ccg", "target: xnli", "score xnli", "target: xnli after ccg", "score xnli after ccg"}
    assert {task.name: task.first_piece for task in literal.study().tasks} == {
        "udpos": "literal", "panx": "literal", "xnli": ""
    }  # fmt: skip


def test_the_default_written_out_changes_no_step() -> None:
    assert plan(pos_study(first_piece="written"), TASKS).steps.keys() == plan(pos_study(), TASKS).steps.keys()


def test_a_task_of_ones_own_keeps_its_first_piece_also_through_like(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "asis: {like: udpos, first_piece: written}\nlater: {like: asis, languages: [ja]}\n"
        "open: {like: udpos, languages: [ja]}\nfixed: {like: udpos, first_piece: literal}\n",
        encoding="utf-8",
    )
    tasks = TASKS | from_yaml(path, TASKS)
    names = ["asis", "later", "open", "fixed"]
    recipe = {"evaluate": names, "phases": [{"name": "target", "each": names}]}
    made = plan(pos_study(**recipe, first_piece="literal"), tasks)
    assert first_pieces(made) == {"asis": "written", "fixed": "literal", "later": "written", "open": "literal"}
    assert first_pieces(plan(pos_study(**recipe), tasks)) == dict.fromkeys(names, "written") | {"fixed": "literal"}


@pytest.mark.parametrize("scale", ["full", "mini"])
@pytest.mark.parametrize("name", ["paper-table2", "paper-table3", "xtreme-baseline"])
def test_the_recipes_of_published_studies_are_literal(name: str, scale: str) -> None:
    found = first_pieces(plan(*read(name, scale)))
    assert {found.pop("udpos"), found.pop("panx")} == {"literal"} and {*found.values()} <= {"written"}


def test_an_unknown_value_is_refused_in_recipe_and_task_file(tagging: Files) -> None:
    tagging.edit("recipe.yaml", "first_piece: literal", "first_piece: literl")
    tagging.refused("recipe.yaml:4: first_piece", "'literl'", "literal", "written")
    tagging.edit("recipe.yaml", "first_piece: literl", "first_piece: literal")
    tagging.edit("tasks.yaml", "format: tag", "format: tag, first_piece: first")
    tagging.refused("tasks.yaml:1: words.first_piece", "'first'", "literal", "written")


@pytest.fixture
def tagging(study: Files, encoder_folder: Path) -> Files:
    """A study that tags Chinese words, at the literal first piece."""
    rows = "".join(f"{word}\t{tag}\n" for word, tag in zip(*sentence(WORDS[:8])[:2], strict=True))
    for split in ("train", "test"):
        study.write(f"words-{split}.tsv", rows)
    study.write("tasks.yaml", "words: {format: tag, data: {train: words-train.tsv, test: words-test.tsv}}\n")
    study.write(
        "recipe.yaml",
        f"name: tags\nencoder: {encoder_folder}\nuse: [tasks.yaml]\nfirst_piece: literal\nseeds: [1]\nkeep: all\n"
        "settings: {steps: 30, lr: 1e-2, batch: 1, max_length: 48}\n"
        "phases: [{name: target, each: words}]\nevaluate: words\n",
    )
    return study


def test_training_scoring_and_show_read_the_same_piece(tagging: Files) -> None:
    def ran() -> tuple[Path, list[str]]:
        """The trained step that is new, and the tags that its evaluation predicted."""
        before = {*tagging.out.glob("steps/*")}
        result = tagging.run()
        assert result.code == 0, result.err
        new = {*tagging.out.glob("steps/*")} - before
        (trained,) = (folder for folder in new if (folder / "head-0.json").is_file())
        ((row,),) = (list(read_rows(x, Prediction)) for folder in new for x in folder.glob("predictions.jsonl"))
        return trained, row.prediction

    def shown(folder: Path) -> tuple[list[str], list[str]]:
        """The pieces with a tag, and the prediction."""
        given = ("--use", tagging.folder / "tasks.yaml", "--encoder", folder)
        lines = tagging.call("show", "words", "en", 0, *given).out.splitlines()
        (tokens,) = (line.split() for line in lines if line.startswith("tokens"))
        (prediction,) = (line for line in lines if line.startswith("prediction"))
        return [token.partition("=")[0] for token in tokens if "=" in token], json.loads(prediction[12:])

    literal, predicted = ran()
    assert json.loads((literal / "head-0.json").read_text())["format"]["first_piece"] == "literal"
    pieces, prediction = shown(literal)
    assert prediction == predicted and "▁" in pieces
    tagging.edit("recipe.yaml", "first_piece: literal\n", "")
    written, predicted = ran()
    pieces, prediction = shown(written)
    assert prediction == predicted and pieces == ["▁猫", *"睡在温的石上。"]
    (one,), (other,) = read_records(literal), read_records(written)
    assert not one.fits(other.format) and one.fits(other.format.as_trained(one.format))
