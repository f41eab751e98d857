"""Writes a run folder of made-up rows as large as the paper's Table 2, for tests of the report's page."""

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from xstilts.languages import XTREME
from xstilts.store.rows import Prediction, Score, write_rows
from xstilts.store.run_folder import MARK, VERSION, Store
from xstilts.study.index import Cell, Study, StudyTask
from xstilts.utils.files import write_atomic

LABELS = ("entailment", "neutral", "contradiction")
TEXTS = ("The cat sleeps on the wall.", "القط ينام على الجدار.", "Кошка спит на стене.", "猫睡在墙上。")
BRANCHES = ("none", *(f"{name}{more}" for more in ("", "+masked-text") for name in "anli mnli qqp squad2 ccg cosmosqa "
            "csqa hellaswag multi".split()), "masked-text")  # fmt: skip
TARGETS = ("xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa", "bucc", "tatoeba")


def write_study(
    folder: Path, *, branches: Sequence[str] = BRANCHES, targets: Sequence[str] = TARGETS,
    languages: Sequence[str] = XTREME, seeds: Sequence[int] = (1, 2, 3), labels: Sequence[str] = LABELS,
    texts: Sequence[str] = TEXTS, examples: int = 10, name: str = "full",
) -> Store:  # fmt: skip
    """A finished study: each target is a classification task, and each later branch is a little better."""
    made, store = _Steps(Store(folder), labels, texts, languages, examples), Store(folder)
    tasks = tuple(
        StudyTask(x, "classify", "accuracy", ("accuracy",), tuple(languages), languages[0], trained_on_own_data=True)
        for x in targets
    )
    cells, steps = [], {}
    for b, branch in enumerate(branches):
        for seed in seeds:
            first = made.train(f"intermediate: {branch}", seed, ()) if b else ""
            steps |= {first: ()} if first else {}
            for task in targets:
                trained = made.train(f"target: {task}" + f" after {branch}" * bool(b), seed, (first,) if b else ())
                scored = made.evaluate(task, branch, seed, trained, 0.5 + 0.4 * b / len(branches))
                cells.append(Cell(branch, seed, task, scored))
                steps |= {trained: (first,) if b else (), scored: (trained,)}
    study = Study(
        name, "tiny", tuple(seeds), tuple(branches), branches[0], tasks, tuple(cells), steps=steps,
        recipe_text="name: full\n# made up\n", recipe_command="xstilts run full",
    )  # fmt: skip
    write_atomic(folder / MARK, json.dumps({"version": VERSION}))
    store.save_study(study)
    return store


class _Steps:
    """Writes finished steps, each with a number as its id."""

    def __init__(self, store: Store, labels: Sequence[str], texts: Sequence[str], languages: Sequence[str], n: int):
        self.store, self.labels, self.texts, self.languages, self.n = store, labels, texts, languages, n
        self.random, self.number = random.Random(7), 0

    def _begin(self, kind: str, title: str, seed: int, parents: Sequence[str], **more: object) -> tuple[str, Path]:
        self.number += 1
        id = f"{self.number:012x}"
        folder = self.store.step(id)
        parent = parents[0] if parents else None
        row = {"id": id, "kind": kind, "title": title, "parent": parent, "seed": seed, **more}
        write_atomic(folder / "step.json", json.dumps(row))
        return id, folder

    def _finish(self, folder: Path, **more: object) -> None:
        facts = {"seconds": 100 * self.random.random(), "memory_bytes": 2**30, "inputs": {}, **more}
        write_atomic(folder / "done.json", json.dumps(facts))

    def train(self, title: str, seed: int, parents: Sequence[str]) -> str:
        id, folder = self._begin("train", title, seed, parents, training={"parts": [{"task": title.split()[1]}]})
        rows = [{"step": i, "loss": 2 / i**0.3 + self.random.random() / 9, "dev": 40 + i / 9} for i in range(1, 200, 2)]
        write_atomic(folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        shares = {"shares": {"mnli": 900, "masked-text": 100}} if "masked-text" in title else {}
        self._finish(folder, dev=60.0, **shares)
        return id

    def evaluate(self, task: str, branch: str, seed: int, parent: str, right: float) -> str:
        id, folder = self._begin("evaluate", f"score {task} after {branch}", seed, [parent])
        predictions, scores = [], []
        for x in self.languages:
            hits = 0
            for i in range(self.n):
                truth = self.labels[i % len(self.labels)]
                guess = truth if self.random.random() < right else self.random.choice(self.labels)
                hits += guess == truth
                text = [self.texts[i % len(self.texts)]] * 2
                predictions.append(Prediction(task, x, "dev", i, str(i), guess, truth, {guess: 0.6}, text))
            value = 100 * hits / self.n
            scores.append(Score(task, x, "dev", "accuracy", value, self.n, id, "tiny", seed, 33.3))
        write_rows(folder / "scores.jsonl", scores)
        write_rows(folder / "predictions.jsonl", predictions)
        self._finish(folder)
        return id


if __name__ == "__main__":
    write_study(Path(sys.argv[1]))
