"""Finds text that an encoder does not read: unknown to its tokenizer, or beyond its length; loads no weights."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import tokenizers

from xstilts.data.examples import locate
from xstilts.errors import UserError
from xstilts.formats.base import Example
from xstilts.formats.mask import Mask
from xstilts.model.encoder_folder import local_folder
from xstilts.model.tokenizer import Tokenizer, unknown_id
from xstilts.study.plan import Plan
from xstilts.study.step import Step
from xstilts.tasks.task import Split, Task
from xstilts.utils.models import encoder_path

MOST = 0.05
"""The largest share of tokens, unknown or beyond the maximum length, that is not noted."""
EXAMPLES = 100
"""The first examples of a split and language that are tokenized."""
CHARACTERS = 20_000
"""Up to so many characters of a raw text's line are tokenized; the rest is counted in proportion."""


class _Sample(NamedTuple):
    """The first examples of a split in a language."""

    task: str
    split: Split
    language: str
    max_length: int

    def examples(self, task: Task, data: Path | None) -> list[Example]:
        """Read them; none where they are missing or a row is invalid."""
        with suppress(UserError):
            located = locate(task, task.data[self.split], (self.language,), data, train=self.split == "train")
            with closing(located.stream()) as examples:  # type: ignore[type-var]
                return list(islice(examples, EXAMPLES))
        return []


def notes(plan: Plan, steps: Iterable[Step], data: Path | None) -> Iterator[str]:
    """Lines about each encoder that reads less than the steps give it.

    One names the languages in which its tokenizer gives over 5 % unknown tokens, one each raw text of which it does not
    read over 5 %. Encoders and data that are not on this machine are left out, as are tokenizers that the study trains.
    """
    given = {step.encoder: step.new.given for step in plan.steps.values() if step.new is not None}
    read: dict[str, dict[_Sample, None]] = {}
    for step in steps:
        if name := given.get(step.encoder, step.encoder):
            read.setdefault(name, {}).update(dict.fromkeys(_samples(plan, step)))
    for name, samples in read.items():
        folder = local_folder(encoder_path(name, data), "tokenizer.json")
        if folder is None or not (folder / "tokenizer.json").is_file():
            continue
        backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        shares, cut = _read(backend, samples, plan.tasks, data)
        over = sorted((-share, code) for code, share in shares.items() if share > MOST)
        if over:
            parts = ", ".join(f"{code} {-100 * share:.0f} %" for share, code in over)
            token = backend.id_to_token(unknown_id(backend) or 0)
            yield f"{name}: the tokenizer gives many {token} ({parts} of the tokens); is it this encoder's own?"
        yield from cut


def _samples(plan: Plan, step: Step) -> Iterator[_Sample]:
    """Of the examples that a step trains on or scores."""
    for part in step.parts:
        codes = plan.tasks[part.task].train_languages
        yield from (_Sample(part.task, "train", code, part.max_length) for code in codes)
    if step.scoring is not None:
        task, languages = plan.tasks[step.scoring.task], step.scoring.languages
        scored = ((split, code) for split in task.scored for code in languages if code in task.languages_of(split))
        yield from (_Sample(task.name, split, code, step.scoring.max_length) for split, code in scored)


def _read(
    backend: tokenizers.Tokenizer, samples: Iterable[_Sample], tasks: Mapping[str, Task], data: Path | None
) -> tuple[dict[str, float], list[str]]:
    """The share of unknown tokens by language, special tokens left out; a line on each text with long lines."""
    unknown = unknown_id(backend)
    special = {id for id, token in backend.get_added_tokens_decoder().items() if token.special} - {unknown}
    count, unknowns, raw = Counter[str](), Counter[str](), defaultdict[tuple[str, int], dict[str, list[int]]](dict)
    for sample in samples:
        code, format = sample.language, tasks[sample.task].format
        if unknown is None and not isinstance(format, Mask):
            continue
        examples = sample.examples(tasks[sample.task], data)
        starts = [line[:CHARACTERS] for line in examples] if isinstance(format, Mask) else examples
        format = format.with_labels_from(examples) if format.needs_labels else format
        tokenizer = Tokenizer(backend, max_length=sample.max_length, unk_id=-1 if unknown is None else unknown)
        for features in format.features(starts, tokenizer):
            count[code] += sum(id not in special for id in features.ids)
            unknowns[code] += sum(id == unknown for id in features.ids)
        if isinstance(format, Mask):
            ids_of = zip(tokenizer.encode(starts), starts, examples, strict=True)
            lengths = [len(tokenizer.single(ids)[0]) * len(line) // max(1, len(start)) for ids, start, line in ids_of]
            raw[sample.task, sample.max_length][code] = lengths
    shares = {code: unknowns[code] / total for code, total in count.items() if total}
    return shares, [note for (task, most), lengths in raw.items() for note in _long_lines(task, most, lengths)]


def _long_lines(task: str, most: int, lengths: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """A line if no forward pass reads over 5 % of a raw text in some language, given its lines' lengths by language."""
    cut = {x: some for x, some in lengths.items() if sum(max(0, n - most) for n in some) > MOST * sum(some)}
    every = [length for some in cut.values() for length in some]
    if every:
        first = "the first " * any(len(some) == EXAMPLES for some in cut.values())
        beyond = sum(max(0, length - most) for length in every) / sum(every)
        yield (
            f"{task} ({', '.join(cut)}): {sum(length > most for length in every)} of {first}{len(every)} lines are "
            f"longer than {most} pieces; what is beyond ({100 * beyond:.0f} %) is not read: one sentence a line "
            "(xstilts corpus cuts them)"
        )
