"""Translates a task's data: finds the rows, translates them, writes the files, a card, and a task entry for recipes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xstilts import languages
from xstilts.data.examples import LocatedSplit, locate
from xstilts.data.find import find_or_empty
from xstilts.errors import Collector, MissingData, UserError, counted, nearest
from xstilts.formats import Span, Tag
from xstilts.formats.base import Row
from xstilts.tasks.task import Split, Task
from xstilts.translate import alignment
from xstilts.translate.card import KEPT, Card, FileCard
from xstilts.translate.engine import Engine, EngineSpec
from xstilts.translate.entities import has_word_tags
from xstilts.translate.files import suffix_of, write_rows
from xstilts.translate.projection import Markers
from xstilts.translate.quality import check_installed, check_same_rows, compare_rows
from xstilts.translate.rows import translate_rows
from xstilts.translate.translator import Translator
from xstilts.utils.progress import Progress

FORMATS = ("classify", "choose", "span", "tag")
REFUSED = {"mask": "use text that was written in the language (xstilts corpus)",
           "retrieve": "its sentences are translations of each other already"}  # fmt: skip
SPLITS: tuple[Split, ...] = ("train", "stop", "dev", "test")


@dataclass(frozen=True)
class TranslationRequest:
    """What to translate: splits of a task from each source to each target language."""

    task: Task
    data: Path | None
    out: Path
    engine: EngineSpec
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    splits: tuple[str, ...] = ()
    """By default those without data in the target language."""
    limit: int | None = None
    """The first rows of each split."""
    markers: Markers | None = None
    reference: Path | None = None
    """Data folder with the same rows in the target languages, for BLEU and chrF."""


@dataclass(frozen=True)
class _Job:
    """One file to write."""

    split: Split
    source: str
    target: str
    located: LocatedSplit
    reference: LocatedSplit | None = None

    @property
    def language(self) -> str:
        """The language in the file's name: that of the scores."""
        return self.source if self.target in self.located.task.train_languages else self.target

    @property
    def is_translate_test(self) -> bool:
        """Whether a test set is translated into the training language."""
        return self.target in self.located.task.train_languages and self.split in ("dev", "test")

    @property
    def title(self) -> str:
        return f"{self.located.task.name} {self.split}, {self.source} to {self.target}"


def translate(request: TranslationRequest, progress: Progress) -> list[str]:
    """Translate the splits, and write them with a card and a task entry; returns a line for each file.

    A file that was made from the same rows by the same engine is not made again.

    Raises:
        UserError: before any work, if the request has a mistake or no data; later, if an engine fails.
    """
    _check(request)
    card = Card.load(request.out, request.task)
    jobs = list(_jobs(request, progress))
    if request.reference and not any(job.reference for job in jobs):
        message = f"{request.reference} has none of the rows to translate in {', '.join(request.targets)}"
        raise UserError(message, where="--reference")
    models = request.out / ".models"
    engines = {(job.source, job.target): request.engine.open(job.source, job.target, models) for job in jobs}
    if len(engines) > 1 and any(engine.identity.get("language") == "" for engine in engines.values()):
        raise UserError("translates one pair of languages only", where=request.engine.model)
    for job in jobs:
        card.check(job.split, job.language, engines[job.source, job.target].identity)
    card.check_splits(request.data, [(job.split, job.language, job.target) for job in jobs])
    written = []
    for number, job in enumerate(jobs, start=1):
        progress.step(number, len(jobs), job.title)
        made = _make(job, engines[job.source, job.target], request, card, progress)
        progress.end(made.summary)
        written.append(f"{card.folder / made.file}: {made.summary}")
    return [*written, f"{card.entry_file}: {', '.join(card.write_entries())}"]


def _check(request: TranslationRequest) -> None:
    """Refuse wrong languages, splits and formats, all at once."""
    found, task = Collector(), request.task
    for code in (*request.sources, *request.targets):
        if not languages.well_formed(code) or languages.as_code(code) != code:
            found.add(f"'{code}' is not a language code", where="--to" if code in request.targets else "--from",
                      hint=languages.hint(code))  # fmt: skip
    if both := set(request.sources) & set(request.targets):
        found.add(f"translates {min(both)} to itself", where="--to")
    if len(request.sources) > 1 and len(request.targets) > 1:
        found.add("several languages to several others", where="--from", hint="give one --from, or one --to")
    for split in request.splits:
        if split not in SPLITS:
            found.add(f"no split '{split}'", where="--split", hint=nearest(split, SPLITS))
    if task.format.name not in FORMATS:
        hint = f"translate takes the formats {', '.join(FORMATS)}"
        found.add(f"has the format {task.format.name}: {REFUSED[task.format.name]}", where=task.name, hint=hint)
    if request.markers and not isinstance(task.format, Span | Tag):
        found.add(f"the format {task.format.name} has no spans to mark", where="--markers")
    if request.markers == "align" or (request.markers is None and has_word_tags(task.format)):
        with found.catch():
            alignment.check_installed()
    with found.catch():
        _check_reference(request)
    with found.catch():
        request.engine.check_targets(request.targets)
    found.raise_any()


def _check_reference(request: TranslationRequest) -> None:
    if not request.reference:
        return
    if isinstance(request.task.format, Tag):
        hint = "nothing tells whether two sentences with tags say the same"
        raise UserError("sentences with tags cannot be compared", where="--reference", hint=hint)
    check_installed()


def _jobs(request: TranslationRequest, progress: Progress) -> Iterator[_Job]:
    """The files to write; says which splits are skipped, and why.

    Raises:
        UserError: there is nothing to translate.
    """
    task, skipped, any_job = request.task, list[UserError](), False
    by_name: dict[str, Split] = {split: split for split in SPLITS}
    for split in map(by_name.__getitem__, request.splits or [split for split in SPLITS if split in task.data]):
        for source in request.sources:
            try:
                located = _locate(request, split, source)
            except MissingData as error:
                skipped.append(error)
                progress.say(f"skipped {split}: {error}")
                continue
            for target in request.targets:
                if not request.splits and _has_data(request, split, target):
                    progress.say(
                        f"skipped {split}: {task.name} has its own data in {target} (--split {split} translates)"
                    )
                    continue
                any_job = True
                yield _Job(split, source, target, located, _reference(request, split, target, progress))
    if not any_job:
        raise skipped[0] if skipped else UserError("nothing to translate", where=task.name)


def _locate(request: TranslationRequest, split: Split, source: str) -> LocatedSplit:
    task = request.task
    if split not in task.data:
        raise MissingData(f"has no {split} data", where=task.name)
    known = task.languages_of(split)
    if source not in known:
        raise MissingData(f"{split} is not in '{source}'", where=task.name, hint=languages.among(source, known))
    train = split in ("train", "stop")
    return locate(task, task.data[split], (source,), request.data, request.limit, train=train)


def _reference(request: TranslationRequest, split: Split, target: str, progress: Progress) -> LocatedSplit | None:
    """The rows of the split in the target language, to compare with; says why there are none."""
    if not request.reference:
        return None
    task, folder = request.task, request.reference
    try:
        if target not in task.train_languages and not task.data[split].per_language:
            raise MissingData(f"{split} is not in '{target}'", where=task.name)
        return _locate(replace(request, data=folder), split, target)
    except MissingData as error:
        progress.say(f"not compared with {folder}: {error}")
        return None


def _has_data(request: TranslationRequest, split: Split, target: str) -> bool:
    """Whether there is no need to translate: the task has the split in the target language already."""
    task, roots = request.task, [request.data] if request.data else []
    if target in task.train_languages:  # translate-test: only what is scored
        return split not in ("dev", "test")
    own = task.data[split]
    return target in task.languages_of(split) and own.per_language and bool(find_or_empty(own, target, roots))


def _make(job: _Job, engine: Engine, request: TranslationRequest, card: Card, progress: Progress) -> FileCard:
    """Write one file, and its part of the card."""
    rows, format = list[Row](), request.task.format
    if isinstance(format, Tag) and format.labels is None and request.markers is None:
        rows = _rows(job.located, progress)
    markers: Markers = request.markers or ("align" if has_word_tags(format, rows) else "letters")
    made_from: dict[str, Any] = {
        "files": sorted(job.located.files.values()),
        "limit": request.limit,
        "markers": markers,
    }
    made_from |= {KEPT: True} if job.is_translate_test else {}
    made_from |= {"aligner": alignment.check_installed()} if markers == "align" else {}
    done = card.find(job.split, job.language)
    is_made = done and done.made_from == made_from and done.engine == engine.identity
    if done and is_made and not job.reference and (card.folder / done.file).is_file():
        return done
    rows = rows or _rows(job.located, progress)
    references = _rows(job.reference, progress) if job.reference else []
    if job.reference and (others := check_same_rows(format, rows, references)):
        progress.say(f"{references[0].file}: {counted(others, 'label')} of {len(rows):,} differ from {rows[0].file}")
    with Translator(engine, request.out / ".lines", progress) as translator:
        translated, routes = translate_rows(format, rows, translator, markers, keep_all=job.is_translate_test)
        counts = translator.counts
    kept = [values for values in translated if values is not None]
    if not kept:
        raise UserError("every row lost a text or its answers", where=job.title)
    quality = compare_rows(format, translated, references, job.target) if job.reference else None
    path = card.folder / f"{job.split}-{job.language}{suffix_of(format)}"
    write_rows(path, format, kept)
    return card.add(
        FileCard(
            file=path.name, split=job.split, language=job.language, source=job.source, target=job.target,
            engine=engine.identity, date=time.strftime("%Y-%m-%d", time.gmtime()), made_from=made_from, rows=len(kept),
            left_out=len(rows) - len(kept), lines=counts["lines"], cut=counts["cut"], empty=counts["empty"],
            unchanged=counts["unchanged"], routes=dict(routes), quality=quality,
            back=request.engine.both_ways(engine) if job.is_translate_test else {},
        )
    )  # fmt: skip


def _rows(located: LocatedSplit, progress: Progress) -> list[Row]:
    rows: list[Row] = []
    for _ in located.stream(progress.say, rows.append):
        pass
    return rows
