"""Writes the card of an exported model: README.md with metadata for the Hub, from what the run folder knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xstilts import languages, metrics
from xstilts.analysis.selection import RULES
from xstilts.errors import counted, visible
from xstilts.predict import licenses
from xstilts.predict.card_snippets import snippet
from xstilts.predict.card_tables import (
    as_markdown,
    chance_line,
    checkpoint_line,
    row_label,
    score_table,
    settings_table,
)
from xstilts.predict.hub import TAG
from xstilts.predict.predictor import Predictor
from xstilts.predict.provenance import Provenance, ScoreRow, StepFacts
from xstilts.tasks.references import PHANG_2020, TaskData
from xstilts.translate.card import FileCard
from xstilts.utils.version import __version__

README = "README.md"
PIPELINES = {
    "classify": "text-classification", "tag": "token-classification", "span": "question-answering",
    "choose": "multiple-choice",
}  # fmt: skip
"""The Hub's name of a format's task."""
VECTORS = "sentence-similarity"
MANY = 12
"""Languages that the first sentence does not name any more."""
KEYS = ("language", "license", "license_name", "library_name", "pipeline_tag", "base_model", "datasets", "tags")
"""The order of the metadata; other keys follow."""


@dataclass(frozen=True)
class ModelCard:
    """The card of a model.

    Attributes:
        name: of the model: its folder's, or OWNER/NAME on the Hub.
        library: what loads the folder, as the Hub calls it.
        predictor: the model.
        origin: how it came about.
        notes: what a user of the export should know.
        own_code: whether the folder has code that loads it.
    """

    name: str
    library: str
    predictor: Predictor
    origin: Provenance
    notes: tuple[str, ...]
    own_code: bool = False

    def write(self, folder: Path) -> None:
        """Write the card into the folder of an export."""
        (folder / README).write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """Metadata between two lines of dashes, then Markdown."""
        parts = (
            self._summary(), self._use(), self._scores(), self._training_data(), self._training(), self._limits(),
            self._versions(), self._citation(),
        )  # fmt: skip
        body = "\n\n".join(part.strip("\n") for part in parts if part)
        return f"---\n{self._metadata().to_yaml(line_break=chr(10), original_order=[*KEYS])}\n---\n\n{body}\n"

    @property
    def pipeline(self) -> str:
        """The Hub's name of what the model does."""
        record = self.predictor.record
        return PIPELINES.get(record.format.name, "") if record else VECTORS

    @property
    def _evaluated(self) -> tuple[str, ...]:
        """The languages with scores."""
        return tuple(dict.fromkeys(row.language for row in self.origin.score_rows if not row.over))

    @property
    def _languages(self) -> list[str]:
        """The languages of the texts that were scored; a translated test set may have another in its name."""
        target = {card.language: card.target for card in self.origin.test_translations}
        return [*dict.fromkeys(target.get(code, code) for code in self._evaluated)]

    @property
    def _data(self) -> dict[str, TaskData | None]:
        return {task: self.origin.data(task) for task in self.origin.trained_tasks}

    @property
    def _translations(self) -> dict[str, list[FileCard]]:
        return {task: self.origin.translations(task) for task in self.origin.trained_tasks}

    @property
    def _licenses(self) -> dict[str, licenses.License]:
        """The licence of each task's training data, and of each engine that has translated some."""
        found = {task: licenses.parse(data.license if data else "") for task, data in self._data.items()}
        for task, data in self._data.items():
            cards = self._translations[task]
            if data and data.translated_from and not cards:
                found[f"the engine that translated {task}"] = licenses.parse("")
            for card in cards:
                if engine := licenses.of_engine(card.engine):
                    found[_engine(card)] = engine
        return found

    def _metadata(self) -> Any:
        """The metadata, as huggingface_hub checks and writes them."""
        from huggingface_hub import EvalResult, ModelCardData

        record, rows = self.predictor.record, self.origin.score_rows
        codes = dict.fromkeys(map(languages.base, (*(record.languages if record else ()), *self._languages)))
        license = licenses.strictest(self._licenses.values()) if self._licenses else None
        results = [
            EvalResult(
                task_type=self.pipeline, dataset_type=row.task.name, dataset_name=f"{row.task.name}, {row_label(row)}",
                dataset_config=row.language, dataset_split=row.split, metric_type=row.metric,
                metric_name=row.metric + (", percent" if metrics.get(row.metric).percent else ""),
                metric_value=row.value,
            ) for row in rows
        ]  # fmt: skip
        return ModelCardData(
            language=[*codes] or None,
            license=license.hub if license else None,
            license_name=_slug(license.text) if license and license.hub == "other" else None,
            library_name=self.library,
            pipeline_tag=self.pipeline,
            base_model=self.origin.base[0] or None,
            datasets=[*dict.fromkeys(name for data in self._data.values() if data for name in data.hub)] or None,
            tags=[TAG, "cross-lingual"],
            metrics=[*dict.fromkeys(row.metric for row in rows)] or None,
            model_name=self.name,
            eval_results=results or None,
        )

    @property
    def _trainings(self) -> list[StepFacts]:
        return [step for step in self.origin.steps if step.spec]

    def _summary(self) -> str:
        record = self.predictor.record
        what = f"`{record.task}`, the format `{record.format.name}`" if record else "vectors of texts"
        lines = [f"# {self.name}", f"A model for {what}."]
        if record:
            lines[1] += f" It was trained in {_joined(record.languages)}."
        others = [x for x in self._languages if record and x not in record.languages]
        if others:
            lines[1] += f" It was also scored zero-shot, without training data in the language: {_joined(others)}."
        if record and record.labels and len(record.labels) <= 40:
            lines.append(f"Labels: {', '.join(map(_code, record.labels))}.")
        if not record and self.origin.steps:
            lines[1] += " They are the encoder's hidden states at the layer of retrieval, averaged over all tokens."
        return "\n\n".join(lines)

    def _use(self) -> str:
        code = snippet(self.library, self.pipeline, self.name, len(getattr(self.predictor.format, "texts", ())))
        if self.own_code:
            code = code.replace(f'"{self.name}"', f'"{self.name}", trust_remote_code=True')
        if not code and not self.notes:
            return ""
        block = [f"```python\n{code}```"] if code else []
        return "\n\n".join(["## Use", *block, *(["\n".join(f"- {note}" for note in self.notes)] if self.notes else [])])

    def _scores(self) -> str:
        rows, origin = self.origin.score_rows, self.origin
        if not rows:
            why = "no evaluation of it is finished in its run folder" if origin.in_run_folder else ""
            why = why or "it was not exported from a run folder with evaluations"
            return f"## Scores\n\nThe scores of this model are not known: {why}."
        main = [row for row in rows if row.metric == row.task.metric]
        legend = ["scores are percentages"] if all(metrics.get(row.metric).percent for row in rows) else []
        cell, study = origin.cells[0], origin.study
        if study and any(row.all_seeds.seeds > 1 for row in rows):
            legend.append(f"median and range: over the seeds of branch `{cell.branch}` in the recipe `{study.name}`")
        legend.append("chance: the best score of answers that ignore the text")
        for name, left_out in origin.left_out.items():
            legend.append(f"{name}: no mean includes {', '.join(left_out)}, which not every run has")
        translated = origin.test_translations
        legend += [
            f"`{one.file}` is translated from {one.source} to {one.target} by {_engine(one)}" for one in translated
        ]
        for task in {row.task.name: row.task for row in rows}.values():
            pseudo = [
                x for x in task.pseudo_test if x in self._evaluated and x not in {one.language for one in translated}
            ]
            if pseudo:
                legend.append(f"{task.name}: the test sets in {', '.join(pseudo)} are machine translations")
            legend += [f"{task.name}: {task.note}"] if task.note else []
        failed = [row_label(row) for row in main if not row.over and {cell.seed, None} & {*row.all_seeds.collapsed}]
        warning = f"**No better than chance in {', '.join(failed)}: this training has failed.**\n\n" if failed else ""
        tables = [score_table([row for row in rows if row.task.name == name]) for name in _names(rows)]
        return f"## Scores\n\n{warning}{as_markdown(tables, legend)}"

    def _training_data(self) -> str:
        if not self._data:
            return ""
        rows = []
        for task, data in self._data.items():
            source = f"[{data.url}]({data.url})" if data and data.url else ", ".join(data.files if data else ())
            license = self._licenses[task]
            codes = ", ".join(data.languages) if data else ""
            rows.append([f"`{task}`", codes or "unknown", source or "unknown", license.text])
        lines = ["## Training data", _markdown_table(["task", "languages", "data", "licence"], rows)]
        warned = {source: one for source, one in self._licenses.items() if one.warning}
        if warned:
            text = "".join(f"\n- {source}: {one.text}; {one.warning}" for source, one in warned.items())
            lines.append(f"**Licences to mind:**\n{text}")
        for task, data in self._data.items():
            if cards := self._translations[task]:
                made = "\n".join(f"- `{one.file}`: from {one.source} to {one.target} by {_engine(one)}, {one.date}; "
                                 f"{one.summary}" for one in cards)  # fmt: skip
                lines.append(f"Translated training data of `{task}`:\n\n{made}")
            elif data and data.translated_from:
                text = f"The data of `{task}` are translated from {data.translated_from}"
                lines.append(f"{text}. The engine is not known, because they have no card.")
        return "\n\n".join(lines)

    def _training(self) -> str:
        origin = self.origin
        lines = ["## Training"]
        base, commit = origin.base
        if base:
            at = f" at commit `{commit[:12]}`" if commit else ""
            lines.append(
                f"The pretrained encoder is [{base}](https://huggingface.co/{base}){at}. Its licence applies, too."
            )
        elif origin.base_folder:
            lines.append(f"The pretrained encoder is a folder, `{origin.base_folder}`. Its licence is not known.")
        if study := origin.study:
            cell, seeds = origin.cells[0], ", ".join(map(str, study.seeds))
            lines.append(f"Recipe `{study.name}`, branch `{cell.branch}`, seed {cell.seed}.")
            branches = ", ".join(f"`{branch}`" for branch in study.branches)
            lines[-1] += f" The recipe has the branches {branches} and the seeds {seeds}."
        if not origin.complete:
            lines.append("It continues an earlier training, which is not known here.")
        made = [step.record for step in origin.steps if step.record.kind in ("create", "merge")]
        lines += [f"Step: {record.title}." for record in made]
        if self._trainings:
            lines += [as_markdown([settings_table(self._trainings)]), *map(chance_line, self._trainings)]
            lines.append(checkpoint_line(self._trainings[-1]))
        lines += [*self._selection()]
        return "\n\n".join(line for line in lines if line) if len(lines) > 1 else ""

    def _selection(self) -> Iterator[str]:
        """Which run this is among those of the study."""
        for task, (run, runs, is_this) in self.origin.selected().items():
            if run is None:
                yield f"Run: one of {runs}; `{task}` has no dev scores to select by."
                continue
            by = f"{RULES[run.rule].description} ({run.metric} {run.selected_by:.1f} on dev)"  # type: ignore[index]
            seed = f"seed {run.seed} of " if run.seed is not None else ""
            if is_this:
                yield f"Run: selected for `{task}` from {counted(runs, 'run')}, {by}."
            else:
                yield f"Run: not the one that is selected for `{task}` {by}: that is {seed}branch `{run.branch}`."

    def _limits(self) -> str:
        record = self.predictor.record
        lines = [f"A text is cut after {self.predictor.max_length} tokens."]
        if record:
            lines.append("Probabilities are a softmax of the model's scores; they are not calibrated.")
        if self._evaluated:
            lines.append("The encoder may read more languages than the table has. How well it does there is not known.")
        else:
            lines.append("How well it does in any language is not known.")
        return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)

    def _versions(self) -> str:
        import torch
        import transformers

        found = f"xstilts {__version__}, transformers {transformers.__version__}, torch {torch.__version__}"
        return f"## Versions\n\nExported with {found}."

    def _citation(self) -> str:
        study = self.origin.study
        scored = [study.data[task] for task in _names(self.origin.score_rows) if study and task in study.data]
        known = [*(data for data in self._data.values() if data), *scored]
        lines = dict.fromkeys([PHANG_2020, *(line for data in known for line in data.references)])
        return "## Citation\n\n" + "\n".join(f"- {line}" for line in lines)


def _names(rows: Iterable[ScoreRow]) -> list[str]:
    return [*dict.fromkeys(row.task.name for row in rows)]


def _joined(codes: Iterable[str]) -> str:
    """Languages by their names, or their number if there are many."""
    codes = [*codes]
    if len(codes) > MANY:
        return f"{len(codes)} languages"
    return ", ".join(found.name if (found := languages.find(code)) else f"`{code}`" for code in codes)


def _code(text: str) -> str:
    """Any text on one line as Markdown's code, which may have backticks of its own."""
    ticks = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{ticks}{space}{visible(text)}{space}{ticks}"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text.lower()).strip("-")


def _engine(card: FileCard) -> str:
    """The engine of a translation with its version."""
    engine = card.engine
    name = engine.get("command") or engine.get("model", "")
    name = Path(name).name if Path(name).is_absolute() else name
    version = engine.get("version", "")
    return " ".join(
        part for part in (engine["engine"], f"`{name}`" if name else "", version and f"({version})") if part
    )


def _markdown_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
