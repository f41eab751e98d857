"""Work of a thread beside its caller, in order and with a bound: items made ahead, and calls made behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Event, local
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Call: TypeAlias = Callable[[], object]

AHEAD, WAITING = 1, 2
"""The most items, which may be large, and the most calls that wait in memory."""


class Stopped(BaseException):
    """The caller of `ahead` wants no more items."""


_thread = local()


def check_stopped() -> None:
    """End the making of an item early, in a thread whose caller wants no more; long loops call this.

    Raises:
        Stopped: the caller wants no more.
    """
    stop: Event | None = getattr(_thread, "stop", None)
    if stop is not None and stop.is_set():
        raise Stopped


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The same items, which a thread makes while the caller uses earlier ones.

    An error reaches the caller in its item's turn. Closing ends the thread.
    """
    stop, end = Event(), object()
    make: Callable[[], Any] = partial(next, items, end)
    with ThreadPoolExecutor(1, initializer=partial(setattr, _thread, "stop", stop)) as thread:
        waiting = deque(thread.submit(make) for _ in range(AHEAD))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(make))
                yield item
        finally:
            stop.set()
            thread.shutdown(cancel_futures=True)


@contextmanager
def behind() -> Iterator[Callable[[Call], None]]:
    """Gives a function that hands a call to a thread, which makes the calls in order while the caller goes on.

    An error of a call is raised when a later one is handed over, or at the end, and before a later error of the caller.
    The calls after it are not made.
    """
    waiting: deque[Future[object]] = deque()
    failed = Event()

    def finish(most: int) -> None:
        while len(waiting) > most:
            waiting.popleft().result()

    def unless_failed(call: Call) -> None:
        if failed.is_set():
            return
        try:
            call()
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(1) as thread:

        def hand_over(call: Call) -> None:
            finish(WAITING - 1)
            waiting.append(thread.submit(unless_failed, call))

        try:
            try:
                yield hand_over
            except Exception:
                finish(0)
                raise
            finish(0)
        finally:
            thread.shutdown(cancel_futures=True)
