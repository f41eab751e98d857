"""Engine: what turns lines of one language into lines of another; the engines that need no torch."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

from xstilts import languages, playground
from xstilts.errors import UserError, nearest

EngineName: TypeAlias = Literal["command", "hf", "ct2", "playground"]
MODELS: tuple[EngineName, ...] = ("hf", "ct2")
"""The engines with a translation model."""
CONVERTED = "model.bin"
"""The file by which a model that CTranslate2 reads is known."""
SECONDS = 10
"""How long a program may take to say its version."""
APERTIUM = "apertium"


class Line(NamedTuple):
    """The translation of a line; `cut` if the engine read only the line's beginning."""

    text: str
    cut: bool = False


class Engine(Protocol):
    """A translation engine for one pair of languages."""

    splits: bool
    """Whether it translates single sentences, so that texts are split."""
    batch: int
    """How many lines `translate` takes at once."""

    @property
    def identity(self) -> dict[str, str]:
        """What decides its translations: engine, program or model, version, languages."""

    def translate(self, lines: Sequence[str]) -> list[Line]:
        """The translations of lines that are not empty, in order. Raises UserError."""


@dataclass(frozen=True)
class EngineSpec:
    """An engine as the command line names it."""

    name: EngineName
    command: str = ""
    """For `command`: a program from stdin to stdout. `{from}`, `{to}`, `{from3}`, `{to3}` stand for the languages."""
    model: str = ""
    """For `hf` and `ct2`: a folder or Hub id, perhaps `@revision`."""
    prompt: str = ""
    """For a chat model in `hf`. `{text}`, `{from}`, `{to}` stand for the text and the languages' names."""

    def __post_init__(self) -> None:
        for option, value, engines, example in (
            ("command", self.command, ("command",), "'apertium -u eng-spa'"),
            ("model", self.model, MODELS, "Helsinki-NLP/opus-mt-en-es"),
            ("prompt", self.prompt, ("hf",), ""),
        ):
            if self.name in engines and example and not value.strip():
                raise UserError(f"needs --{option}", where=f"--engine {self.name}", hint=f"such as {example}")
            if self.name not in engines and value:
                raise UserError(f"cannot be used with --engine {self.name}", where=f"--{option}")
        if self.prompt and self.prompt.count("{text}") != 1:
            raise UserError("must have {text} once", where="--prompt", hint="write {text} where the text goes")

    def check_targets(self, targets: Sequence[str]) -> None:
        """Refuse a command or prompt that would be the same for several target languages.

        Raises:
            UserError: it does not say where the language goes.
        """
        for option, value, word in (("command", self.command, "{to} or {to3}"), ("prompt", self.prompt, "{to}")):
            if value and len(targets) > 1 and "{to" not in value:
                hint = f"write {word} where the language goes"
                raise UserError(f"is the same for {', '.join(targets)}", where=f"--{option}", hint=hint)

    def both_ways(self, engine: Engine) -> dict[str, str]:
        """The engine for both directions, as a task's `translate_back` has it; empty if it knows one only.

        It has models for `hf` only: not a model that the user converted, nor a chat model's prompt.
        """
        if self.name == "command" and "{from" in self.command and "{to" in self.command:
            return {"command": self.command}
        if self.prompt or (Path(self.model) / CONVERTED).is_file():
            return {}
        return {"model": self.model} if engine.identity.get("language") else {}

    def open(self, source: str, target: str, models: Path = Path(".models")) -> Engine:
        """The engine for a pair of languages; `models` is the folder for those that it converts.

        Raises:
            UserError: it is not installed, or does not know the pair.
        """
        if self.name == "playground":
            return PlaygroundEngine(source, target)
        if self.name == "command":
            return CommandEngine(self.command, source, target)
        if self.name == "ct2":
            from xstilts.translate.ct2 import Ct2Engine  # here, because it loads torch

            return Ct2Engine(self.model, models, source, target)
        from xstilts.translate.hf import open_engine

        return open_engine(self.model, self.prompt, source, target)


def is_apertium(program: str) -> bool:
    """Whether a program is Apertium, by its name or path."""
    return Path(program).name == APERTIUM


class PlaygroundEngine:
    """The playground's own grammar: exact translations of its English sentences."""

    splits, batch = False, 4096

    def __init__(self, source: str, target: str) -> None:
        if source != playground.LANGUAGES[0]:
            raise UserError(f"cannot translate from '{source}'", where="--engine playground", hint="it knows en")
        if target not in playground.LANGUAGES:
            raise UserError(f"cannot translate to '{target}'", where="--engine playground",
                            hint=nearest(target, playground.LANGUAGES[1:]))  # fmt: skip
        self.target = target
        self.identity = {
            "engine": "playground", "version": str(playground.VERSION), "from": source, "to": target,
        }  # fmt: skip

    def translate(self, lines: Sequence[str]) -> list[Line]:
        """The lines in the target language.

        Raises:
            UserError: a line is not a text of the playground.
        """
        try:
            return [Line(playground.translate(line, self.target)) for line in lines]
        except ValueError as error:
            hint = "it translates the tasks play-*"
            raise UserError(f"does not know {error}", where="--engine playground", hint=hint) from error


class CommandEngine:
    """Any program that reads lines from stdin and writes as many to stdout."""

    splits, batch = False, 256

    def __init__(self, command: str, source: str, target: str) -> None:
        words = {"{from}": source, "{to}": target, "{from3}": languages.code3(source), "{to3}": languages.code3(target)}
        command = re.sub(r"\{(?:from|to)3?\}", lambda hit: words[hit[0]], command)
        try:
            self.arguments = shlex.split(command)
        except ValueError as error:
            raise UserError(f"cannot be read: {error}", where="--command", hint=command) from error
        self.command = command
        program = self.arguments[0]
        self._is_apertium = is_apertium(program)
        if shutil.which(program) is None:
            package = f"apt-get install apertium apertium-{languages.code3(source)}-{languages.code3(target)}"
            hint = package if self._is_apertium else "give its path"
            raise UserError(f"the program {program} is not installed", where="--command", hint=hint)
        self._pair = {"from": source, "to": target}
        # Apertium translates words by their neighbours, also those of the next line. An empty line keeps lines apart.
        self.line_end = "\n\n" if self._is_apertium else "\n"
        if self._is_apertium:
            self._check_apertium()

    @cached_property
    def identity(self) -> dict[str, str]:
        """The command with its program's version."""
        return {"engine": "command", "command": self.command, "version": self._version(), **self._pair}

    def _version(self) -> str:
        option = "-V" if self._is_apertium else "--version"
        try:
            done = subprocess.run([self.arguments[0], option], stdin=subprocess.DEVNULL, capture_output=True,
                                  timeout=SECONDS, check=True)  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return "unknown"
        return next(iter(done.stdout.decode(errors="replace").splitlines()), "").strip() or "unknown"

    def _check_apertium(self) -> None:
        """Refuse a pair that Apertium lacks, and marks at unknown words."""
        listed = subprocess.run([self.arguments[0], "-l"], capture_output=True, encoding="utf-8", check=False)
        pairs = listed.stdout.split()
        pair = next(
            (word for word in self.arguments[1:] if re.fullmatch(r"[a-z]{2,3}(_\w+)?-[a-z]{2,3}(_\w+)?", word)), ""
        )
        if pair and pair not in pairs:
            hint = f"{nearest(pair, pairs)}; apt-get install apertium-{pair} may bring it"
            raise UserError(f"Apertium has no pair {pair}", where="--command", hint=hint)
        meant = tuple(languages.as_code(side.split("_")[0]) for side in pair.split("-"))
        if pair and meant != tuple(map(languages.base, self._pair.values())):
            hint = "write apertium -u {from3}-{to3}"
            raise UserError(f"{pair} is not {self._pair['from']} to {self._pair['to']}", where="--command", hint=hint)
        if not any(re.fullmatch("-[a-z]*u[a-z]*", word) for word in self.arguments):
            hint = f"write apertium -u {pair}"
            raise UserError("Apertium without -u puts a * before unknown words", where="--command", hint=hint)

    def translate(self, lines: Sequence[str]) -> list[Line]:
        """The program's lines.

        Raises:
            UserError: the program fails, or returns another number of lines; the message has the first such line.
        """
        output = self._run(lines)
        if len(output) == len(lines):
            return [Line(text.strip()) for text in output]
        if len(lines) == 1:
            message = f"returned {len(output)} lines, not 1, of: {lines[0][:100]}"
            raise UserError(message, where=self.command, hint="the program must write one line for each line it reads")
        middle = len(lines) // 2
        return self.translate(lines[:middle]) + self.translate(lines[middle:])

    def _run(self, lines: Sequence[str]) -> list[str]:
        text = "".join(line + self.line_end for line in lines)
        try:
            done = subprocess.run(self.arguments, input=text.encode(), capture_output=True, check=False)
        except OSError as error:
            raise UserError(f"cannot be started: {error.strerror}", where=self.command) from error
        errors = done.stderr.decode(errors="replace").strip().splitlines()
        if done.returncode:
            raise UserError(f"ended with exit code {done.returncode}", where=self.command, hint="; ".join(errors[:3]))
        try:
            output = done.stdout.decode().replace("\r\n", "\n").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise UserError("wrote text that is not UTF-8", where=self.command) from error
        return list(islice(output, 0, None, len(self.line_end)))
