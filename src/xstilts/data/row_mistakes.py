"""Collects the mistakes of a split's rows: equal ones are counted, unknown labels share a line."""

from __future__ import annotations

from dataclasses import dataclass, field

from xstilts.errors import Catcher, Collector, UnknownLabel, UserError, visible

MISTAKES = 10
"""Reading stops after so many kinds of mistakes."""
LABELS = 5
"""A line names so many unknown labels."""


@dataclass
class _Kind:
    """The first mistake of a kind, and how many there are: of unknown labels, by label."""

    first: dict[str, UserError] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, error: UserError, label: str) -> None:
        self.first.setdefault(label, error)
        self.counts[label] = self.counts.get(label, 0) + 1

    def error(self) -> UserError:
        """One error for all of them."""
        (label, error), *others = self.first.items()
        if others:
            return self._unknown_labels()
        if self.counts[label] == 1:
            return error
        return type(error)(f"{error.message}, and {self.counts[label] - 1:,} more like it",
                           where=error.where, hint=error.hint)  # fmt: skip

    def _unknown_labels(self) -> UserError:
        shown = sorted(self.first, key=lambda label: -self.counts[label])[:LABELS]
        hints = {label: self.first[label].hint for label in shown}
        known = [hint for hint in dict.fromkeys(hints.values()) if not hint.startswith("did you mean")]
        parts = []
        for label in shown:
            line = self.first[label].where.rpartition(":")[2].strip()
            times = "once, at" if self.counts[label] == 1 else f"{self.counts[label]:,} times, first at"
            near = f" ({hints[label]})" if hints[label] not in known else ""
            parts.append(f"'{visible(label)}' {times} {'line ' if line.isdecimal() else ''}{line}{near}")
        parts += [f"and {len(self.first) - len(shown):,} more"] if len(self.first) > len(shown) else []
        message = f"{len(self.first):,} labels not in the list: {'; '.join(parts)}"
        return UserError(message, where=next(iter(self.first.values())).where.rpartition(":")[0], hint=", ".join(known))


class RowMistakes(Catcher):
    """Collects the mistakes of rows, as `Collector` does, with one error for each kind and file."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def receive(self, error: UserError) -> None:
        """Count a mistake; drops it if there are too many kinds already."""
        unknown = error.label if isinstance(error, UnknownLabel) else None
        key = error.where.rpartition(":")[0] or error.where, error.message if unknown is None else "unknown label"
        if key in self._kinds or not self.too_many:
            self._kinds.setdefault(key, _Kind()).add(error, unknown or "")

    @property
    def too_many(self) -> bool:
        """Whether to stop reading."""
        return len(self._kinds) >= MISTAKES

    @property
    def errors(self) -> list[UserError]:
        """One error for each kind of mistake, in the order of the first ones."""
        return [kind.error() for kind in self._kinds.values()]

    def raise_any(self) -> None:
        """Raise the error, or `Mistakes` for several."""
        collected = Collector()
        collected.errors += self.errors
        collected.raise_any()
