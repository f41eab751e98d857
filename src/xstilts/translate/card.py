"""The card beside translated data, and the task entries by which recipes use them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, TypeAdapter

from xstilts import metrics
from xstilts.data.find import find_or_empty
from xstilts.errors import UserError
from xstilts.formats import Span
from xstilts.tasks.task import Split, Task
from xstilts.translate.projection import counts_line
from xstilts.translate.quality import Quality
from xstilts.utils.files import parse_json, write_atomic
from xstilts.utils.locks import exclusive
from xstilts.utils.models import Strict

CARD, README = "card.json", "README.md"
KEPT = "keeps all rows"
"""Noted of a file for which `translate_rows` kept all rows with their ids, and the originals of questions."""
FIRST_LINE = "# written by xstilts translate; `use` this file in a recipe\n"


class FileCard(Strict):
    """How one file was made."""

    file: str
    split: Split
    language: str
    """The language in its name and in score rows."""
    source: str
    target: str
    engine: dict[str, str]
    date: str
    made_from: dict[str, Any]
    """The sha256 of the source's files, `limit` and `markers`; with alignment, also the aligner's version."""
    rows: int
    left_out: int
    """Rows without a translation, or whose answers or entities were lost."""
    lines: int
    """Lines that the engine translated, counted as often as they occur; the next three are some of them."""
    cut: int
    """Lines that were too long for the engine, which read only their beginning."""
    empty: int
    unchanged: int
    routes: dict[str, int] = Field(default={})
    """How many answers or entities each route found, or how many words it tagged."""
    quality: Quality | None = None
    """Compared with `--reference`."""
    back: dict[str, str] = Field(default={})
    """Of a test set in the training language: the engine that translates both ways, as `translate_back` has it."""

    @property
    def summary(self) -> str:
        """The numbers on one line."""
        shares = ", ".join(f"{getattr(self, name):,} {name}" for name in ("unchanged", "empty", "cut"))
        spans = f"; {counts_line(self.routes)}" if self.routes else ""
        quality = f"; {self.quality}" if self.quality else ""
        limited = " (--limit)" if self.rows + self.left_out == self.made_from.get("limit") else ""
        return (
            f"{self.rows:,} rows{limited}, {self.left_out:,} left out; {self.lines:,} lines, {shares}{spans}{quality}"
        )


def read_cards(folder: Path) -> list[FileCard]:
    """How the translated files of a folder were made; empty if it has no card.

    Raises:
        UserError: the card is damaged.
    """
    path = folder / CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else "{}"
    return parse_json(TypeAdapter(dict[str, list[FileCard]]), "card", text, str(path)).get("files", [])


def cards_of(files: Iterable[str], folder: Path = Path()) -> list[FileCard]:
    """How those of some files were made that are translations; without those whose card is damaged.

    Args:
        files: paths of data files.
        folder: relative paths start there.
    """
    found: dict[Path, set[str]] = {}
    for file in files:
        path = folder / file
        found.setdefault(path.parent, set()).add(path.name)
    cards: list[FileCard] = []
    for beside, names in sorted(found.items()):
        with suppress(OSError, UserError):
            cards += [card for card in read_cards(beside) if card.file in names]
    return cards


class Card:
    """All files of a task in one folder of translations."""

    def __init__(self, out: Path, task: Task, files: list[FileCard]) -> None:
        self.folder, self.entry_file, self.task, self.files = out / task.name, out / f"{task.name}.yaml", task, files

    @classmethod
    def load(cls, out: Path, task: Task) -> Card:
        """Read the card of earlier translations.

        Raises:
            UserError: the folder has files that no translation wrote.
        """
        card = cls(out, task, [])
        card.files = card.read()
        known = {CARD, README, *(one.file for one in card.files)}
        others = sorted(path.name for path in card.folder.glob("*") if path.name not in known and path.name[0] != ".")
        if others:
            message = f"has {', '.join(others[:3])}, which no translation wrote"
            raise UserError(message, where=str(card.folder), hint="choose another --out for translated data")
        if card.entry_file.is_file() and not card.entry_file.read_text(encoding="utf-8").startswith(FIRST_LINE[:30]):
            raise UserError("is a task file of another kind", where=str(card.entry_file), hint="choose another --out")
        return card

    def read(self) -> list[FileCard]:
        """The files that the folder's card lists.

        Raises:
            UserError: the card is damaged.
        """
        return read_cards(self.folder)

    def find(self, split: str, language: str) -> FileCard | None:
        """The file of a split in a language, if it was made."""
        return next((one for one in self.files if (one.split, one.language) == (split, language)), None)

    def check(self, split: str, language: str, engine: dict[str, str]) -> None:
        """Refuse to replace a translation by another engine's or from another language.

        Raises:
            UserError: the file exists, and another engine made it.
        """
        made = self.find(split, language)
        if made and any(
            made.engine.get(key) != engine.get(key) for key in made.engine.keys() | engine if key != "version"
        ):
            by = ", ".join(f"{key} {value}" for key, value in made.engine.items())
            raise UserError(f"was made by another engine ({by})", where=str(self.folder / made.file),
                            hint="choose another --out")  # fmt: skip

    def check_splits(self, data: Path | None, wanted: list[tuple[Split, str, str]]) -> None:
        """Refuse to score a language on translated and on English files.

        Raises:
            UserError: one of dev and test is translated; the other has only the source language's file.
        """
        made = {(one.split, one.language) for one in self.files} | {(split, code) for split, code, _ in wanted}
        roots = [data] if data else []
        shared = self.task.data.keys() >= {"train", "dev", "test"}  # dev then counts as being in the training language
        for _, code, target in wanted:
            into_training_language = target in self.task.train_languages
            done = [
                split for split in self.task.data if (split, code) in made and (split in self.task.scored or shared)
            ]
            for split in self.task.scored if done else ():
                own = self.task.data[split]
                mixed = into_training_language or not own.per_language
                if mixed and (split, code) not in made and find_or_empty(own, code, roots):
                    message = f"{done[0]} would be translated, but {split} the original"
                    raise UserError(message, where=self.task.name, hint=f"translate both: --split {done[0]},{split}")

    def add(self, made: FileCard) -> FileCard:
        """Note a file, in the card and for readers."""
        with exclusive(self.folder / ".lock", wait=True):  # another run may write other languages
            others = [one for one in self.read() if (one.split, one.language) != (made.split, made.language)]
            self.files = [*others, made]
            files = [one.model_dump(mode="json") for one in self.files]
            write_atomic(self.folder / CARD, json.dumps({"files": files}, indent=1, ensure_ascii=False) + "\n")
            write_atomic(self.folder / README, self.page())
        return made

    def page(self) -> str:
        """The card for readers, in Markdown."""
        data = f"Data: {self.task.url or self.task.name}. Licence of the data: {self.task.license or 'unknown'}. "
        parts = [
            f"# {self.task.name}, translated\n",
            data + "The engine's licence may restrict the translations, too.\n",
        ]
        for one in self.files:
            engine = ", ".join(f"{key} {value}" for key, value in one.engine.items() if key not in ("from", "to"))
            parts.append(f"## {one.file}\n\nfrom {one.source} to {one.target}, {one.date}, {engine}\n\n{one.summary}\n")
        return "\n".join(parts)

    def write_entries(self) -> list[str]:
        """Write the task file for recipes; returns the names of its tasks."""
        entries: dict[str, Any] = {}
        backs: dict[str, list[FileCard]] = {}
        trained = {one.language for one in self.files if one.split == "train"}
        for one in self.files:
            if one.split == "stop" and one.language not in trained:
                continue  # the data for early stopping are in the training language
            into_training_language = one.target in self.task.train_languages
            name = f"{self.task.name}-{'to-' if into_training_language else ''}{one.target.lower().replace('_', '-')}"
            entry = entries.setdefault(name, {"like": self.task.name, "data": {}, "note": self._note(one.target)})
            path = f"{self.task.name}/{one.split}-{{lang}}{Path(one.file).suffix}"
            entry["data"][one.split] = path
            if KEPT in one.made_from and isinstance(self.task.format, Span):
                entry["data"][one.split] = {"path": path, "where": {"answered": "yes"}}
                backs.setdefault(name, []).append(one)
                if self._own_rules:
                    entry["metrics"] = list(self.task.format.metrics)  # the answers are English
            if one.split == "train":
                entry |= {"train_languages": [one.language], "translated_from": one.source}
            if one.split in ("dev", "test"):
                entry["languages"] = sorted({*entry.get("languages", ()), one.language})
                if not into_training_language and (one.split == "test" or not self.find("test", one.language)):
                    found = {"bleu": one.quality.bleu, "chrf": one.quality.chrf} if one.quality else {}
                    entry.setdefault("pseudo_test", {})[one.language] = {x: round(y, 2) for x, y in found.items()}
        for name, files in backs.items():
            if files[0].back and all(one.back == files[0].back for one in files):
                data = {one.split: entries[name]["data"][one.split]["path"] for one in files}
                note = f"{entries[name]['note']}; answers are translated back"
                entries[f"{name}-and-back"] = {
                    "like": name, "data": data, "translate_back": files[0].back, "note": note,
                } | ({"metrics": list(self.task.metrics)} if self._own_rules else {})  # fmt: skip
        text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
        write_atomic(self.entry_file, FIRST_LINE + text)
        return list(entries)

    @property
    def _own_rules(self) -> bool:
        """Whether a metric has rules for each language, as MLQA's have."""
        return any(metrics.get(name).by_language for name in self.task.metrics if ":" not in name)

    def _note(self, target: str) -> str:
        """From which languages the files of an entry were translated, and by which engines."""
        engines = ((one.source, one.engine) for one in self.files if one.target == target)
        names = (
            (source, engine.get("command") or engine.get("model") or engine["engine"]) for source, engine in engines
        )
        ways = dict.fromkeys(f"from {source} to {target} by {name}" for source, name in names)
        return f"translated {'; '.join(ways)}; see {self.task.name}/{README}"
