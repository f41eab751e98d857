"""Writes a small folder with exactly the files that XTREME's download scripts leave, in their layouts.

Source: google-research/xtreme, `scripts/download_data.sh` and `utils_preprocess.py`. All texts are our own.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from xstilts.tasks import TASKS

TAGS = ("DET", "NOUN", "VERB", "ADP")
ENTITIES = ("B-PER", "I-PER", "O", "B-LOC")
NLI = ("entailment", "neutral", "contradiction")
UD_WITHOUT_DEV = ("kk", "th", "tl", "yo")
NAMES = {
    "ar": "arabic", "bn": "bengali", "en": "english", "fi": "finnish", "id": "indonesian", "ko": "korean",
    "ru": "russian", "sw": "swahili", "te": "telugu",
}  # fmt: skip


def words(language: str, number: int) -> list[str]:
    """Four words of a made-up sentence."""
    return [f"{language}{stem}{number % 7}" for stem in ("ba", "ku", "mi", "to")]


def sentence(language: str, number: int, quoted: bool = False) -> str:
    text = " ".join(words(language, number))
    return f'{text} "{language}"' if quoted else text


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def write_rows(path: Path, rows: Iterable[Sequence[str]]) -> None:
    r"""As `csv.writer(file, delimiter="\t")` writes them: CRLF, and quotation marks doubled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter="\t").writerows(rows)


def xtreme_folder(folder: Path, *, train: int = 40, rows: int = 4) -> Path:
    """The folder `download` of XTREME's nine tasks: `train` rows in training files, `rows` in each other file."""
    for task, labels in (("xnli", NLI), ("pawsx", ("0", "1"))):
        write_pairs(folder / task, task, labels, train, rows)
    for task, tags in (("udpos", TAGS), ("panx", ENTITIES)):
        write_tokens(folder / task, task, tags, train, rows)
    write_questions_files(folder, train, rows)
    for language in TASKS["bucc2018"].languages:
        write_bucc(folder / "bucc2018", language, rows)
    for language in TASKS["tatoeba"].all_languages:
        write_tatoeba(folder / "tatoeba", language, rows)
    return folder


def write_pairs(folder: Path, task: str, labels: Sequence[str], train: int, rows: int) -> None:
    def pairs(language: str, count: int) -> Iterator[list[str]]:
        for i in range(count):
            yield [sentence(language, i, quoted=i == 1), sentence(language, i + i % 3), labels[i % len(labels)]]

    write_rows(folder / "train-en.tsv", pairs("en", train))
    for language in TASKS[task].languages:
        write_rows(folder / f"dev-{language}.tsv", pairs(language, rows))
        write_rows(folder / f"test-{language}.tsv", (row[:2] for row in pairs(language, rows)))


def write_tokens(folder: Path, task: str, tags: Sequence[str], train: int, rows: int) -> None:
    def sentences(language: str, count: int, *, labels: bool) -> str:
        return "\n".join(
            "".join(
                f"{word}\t{tag}\n" if labels else f"{word}\n"
                for word, tag in zip(words(language, i), tags, strict=True)
            )
            for i in range(count)
        )

    # XTREME's script writes the languages of UD 2.5 only; PAN-X has all splits in all languages
    for language in TASKS[task].languages if task == "udpos" else TASKS[task].all_languages:
        if task != "udpos" or language not in UD_WITHOUT_DEV:
            write(folder / f"train-{language}.tsv", sentences(language, train, labels=True))
            write(folder / f"dev-{language}.tsv", sentences(language, rows, labels=True))
        write(folder / f"test-{language}.tsv", sentences(language, rows, labels=False))


def questions(language: str, ids: Sequence[str], *, answers: bool) -> str:
    """SQuAD's layout with one question a paragraph, as XTREME's scripts write it."""
    data = []
    for i, id in enumerate(ids):
        context, answer = sentence(language, i), words(language, i)[1]
        found = {"answer_start": context.index(answer), "text": answer} if answers else {"answer_start": 0, "text": ""}
        question = {"answers": [found], "question": f"{words(language, i)[0]} {language}na?", "id": id}
        data.append({"paragraphs": [{"context": context, "qas": [question]}]})
    return json.dumps({"data": data, "version": "1.1"})


def write_questions_files(folder: Path, train: int, rows: int) -> None:
    def numbered(count: int, prefix: str = "q") -> list[str]:
        return [f"{prefix}{i}" for i in range(count)]

    for name, count in (("train", train), ("dev", rows)):
        write(folder / "squad" / f"{name}-v1.1.json", questions("en", numbered(count), answers=True))
    for language in TASKS["xquad"].languages:
        write(folder / "xquad" / f"xquad.{language}.json", questions(language, numbered(rows), answers=False))
    for context in TASKS["mlqa"].languages:
        for asked in TASKS["mlqa"].languages:
            for split in ("dev", "test"):
                name = f"{split}-context-{context}-question-{asked}.json"
                text = questions(context, numbered(rows), answers=split == "dev")
                write(folder / "mlqa" / "MLQA_V1" / split / name, text)
    tydiqa, name = folder / "tydiqa", "tydiqa-goldp-v1.1-train"
    whole: list[Any] = []
    for language, full_name in NAMES.items():
        short_ids = [str(i % 3) for i in range(train)]  # the script keeps the last field only, so ids repeat
        write(tydiqa / name / f"tydiqa.goldp.{language}.train.json", questions(language, short_ids, answers=True))
        ids = [f"{full_name}--{i}-{i % 3}" for i in range(train)]
        whole += json.loads(questions(language, ids, answers=True))["data"]
        dev = questions(language, numbered(rows, f"{full_name}-"), answers=False)
        write(tydiqa / "tydiqa-goldp-v1.1-dev" / f"tydiqa.goldp.{language}.dev.json", dev)
    write(tydiqa / name / f"{name}.json", json.dumps({"data": whole, "version": "1.1"}))


def write_bucc(folder: Path, language: str, rows: int) -> None:
    """The shared task's sentences; the script removes the gold pairs of its training data, XTREME's test."""
    for split in ("dev", "test"):
        name = f"{language}-en.{split}"
        for side in (language, "en"):
            lines = (f"{side}-{i:09}\t{sentence(side, i)} {language}{split}{i}\n" for i in range(rows + 2))
            write(folder / f"{name}.{side}", "".join(lines))
        if split == "dev":
            write(folder / f"{name}.gold", "".join(f"{language}-{i:09}\ten-{i:09}\n" for i in range(rows)))


def write_tatoeba(folder: Path, language: str, rows: int) -> None:
    """The foreign side in LASER's order, the English side sorted by code point."""
    english = [f"{'dbac'[i % 4]} {sentence('en', i)}" for i in range(rows)]
    write(folder / f"{language}-en.{language}", "".join(f"{sentence(language, i)}\n" for i in range(rows)))
    write(folder / f"{language}-en.en", "".join(f"{text}\n" for text in sorted(english)))


def leaderboard_files(folder: Path) -> list[str]:
    """The leaderboard's files in a folder, by path."""
    return sorted(islice((path.relative_to(folder).as_posix() for path in folder.rglob("test-*.*")), 1000))
