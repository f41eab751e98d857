"""Collects rows of many requests and predicts them together, on one thread that owns the model."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from xstilts.errors import UserError
from xstilts.formats.base import Example
from xstilts.predict.predictor import LOOK_AHEAD

GROUP_CHARACTERS = 2**14
"""Rows that are predicted together have about so many characters: a few of the forward pass's batches of tokens.

Larger groups are not faster, and their rows wait for one another.
"""

Results: TypeAlias = Callable[..., Sequence[dict[str, Any]]]
"""`Predictor.results`, or `Pool.neighbours`."""


class Busy(UserError):
    """Too many rows wait already."""


@dataclass(eq=False)
class _Request:
    """The rows of a request, how far they are, and the future of their results."""

    examples: Sequence[Example]
    sizes: Sequence[int]
    """The characters of each row."""
    options: tuple[str, int]
    """Language and `top`; only rows with the same ones are predicted together."""
    arrived: float
    answer: asyncio.Future[list[dict[str, Any]]]
    taken: int = 0
    results: dict[int, dict[str, Any]] = field(default_factory=dict)

    def receive(self, row: int, result: dict[str, Any]) -> None:
        """Keep the result of a row; answer when all are there, unless nobody waits any more."""
        self.results[row] = result
        if len(self.results) == len(self.examples) and not self.answer.done():
            self.answer.set_result([self.results[i] for i in range(len(self.examples))])


_Group: TypeAlias = list[tuple[_Request, int]]
"""Requests, each with the number of a row."""


class Batcher:
    """Predicts the rows of concurrent requests; each request gets its own results."""

    def __init__(self, results: Results, thread: Executor, *, window: float, most_rows: int) -> None:
        """Prepare; `run` has to run meanwhile.

        Args:
            results: called on `thread` alone.
            thread: an executor with a single thread.
            window: seconds that a row waits for others at most, while the model is free.
            most_rows: so many rows may wait or be computed.
        """
        self.rows, self._most_rows = 0, most_rows
        self._compute, self._thread, self._window = results, thread, window
        self._requests, self._arrived = deque[_Request](), asyncio.Event()

    async def predict(
        self, examples: Sequence[Example], sizes: Sequence[int], *, language: str, top: int
    ) -> list[dict[str, Any]]:
        """The results of some rows, in order; see `Predictor.results`. If it is cancelled, the rest is not computed.

        Args:
            examples: of the rows.
            sizes: the characters of each.
            language: of the texts.
            top: the most answers of a question.

        Raises:
            Busy: too many rows wait.
        """
        if not examples:
            return []
        if self.rows + len(examples) > self._most_rows:
            raise Busy(f"busy: {self.rows:,} rows wait, of {self._most_rows:,} that may; try again")
        loop = asyncio.get_running_loop()
        request = _Request(examples, sizes, (language, top), loop.time(), loop.create_future())
        self._requests.append(request)
        self._arrived.set()
        self.rows += len(examples)
        try:
            return await request.answer
        finally:
            self.rows -= len(examples)

    async def run(self) -> None:
        """Predict what comes, until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._arrived.clear()
            if not self._requests:
                await self._arrived.wait()
            await asyncio.sleep(max(0.0, self._requests[0].arrived + self._window - loop.time()))
            if group := self._take():
                await self._predict(group)

    def _take(self) -> _Group:
        """The next rows with the same options: one of each request in turn, so a large request delays no small one."""
        waiting = [one for one in self._requests if not one.answer.done()]  # a client that has gone has a done one
        first = waiting[0].options if waiting else None
        turns = deque(one for one in waiting if one.options == first)
        group, characters = _Group(), 0
        while turns and len(group) < LOOK_AHEAD and characters < GROUP_CHARACTERS:
            request = turns.popleft()
            group.append((request, request.taken))
            characters += request.sizes[request.taken]
            request.taken += 1
            if request.taken < len(request.examples):
                turns.append(request)
        self._requests = deque([*(one for one in waiting if one.options != first), *turns])
        return group

    async def _predict(self, group: _Group) -> None:
        """Compute a group. If it fails, compute each request's rows alone, so that only the faulty one fails."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._results, group)
        await asyncio.wait([future])
        if (error := future.exception()) is None:
            for (request, row), result in zip(group, future.result(), strict=True):
                request.receive(row, result)
            return
        requests = dict.fromkeys(request for request, _ in group)
        if len(requests) > 1:
            for one in requests:
                await self._predict([(request, row) for request, row in group if request is one])
        elif not (answer := group[0][0].answer).done():
            answer.set_exception(error)

    def _results(self, group: _Group) -> Sequence[dict[str, Any]]:
        language, top = group[0][0].options
        return self._compute([one.examples[row] for one, row in group], language=language, top=top)
