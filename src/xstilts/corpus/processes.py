"""Turns the files of a language into sentences, wikitext in several processes."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path

from xstilts.corpus.articles import Batch, dump, read
from xstilts.corpus.sentences import sentences
from xstilts.corpus.wikitext import plain
from xstilts.errors import UserError


def cut(paths: Sequence[str], code: str, workers: int, report: Callable[[int, int], None]) -> Iterator[str]:
    """The sentences of some files, in order, whatever the number of processes.

    Args:
        paths: the files.
        code: the language's code.
        workers: processes for wikitext; the rest is quick enough in one.
        report: called now and then with the bytes read of all files and the number of sentences.
    """
    before = count = 0
    for path in paths:
        for at, some in _cut(read(path), code, workers if dump(path) else 1):
            count += len(some)
            report(before + at, count)
            yield from some
        before += Path(path).stat().st_size


def _cut(batches: Iterable[Batch], code: str, workers: int) -> Iterator[tuple[int, list[str]]]:
    """The sentences of batches of texts, in order; a few batches a process wait at most."""
    if workers == 1:
        yield from ((batch.at, _of(batch, code)) for batch in batches)
        return
    waiting: deque[tuple[int, Future[list[str]]]] = deque()
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_obey)
    try:
        for batch in batches:
            waiting.append((batch.at, pool.submit(_of, batch, code)))
            if len(waiting) > 2 * workers:
                at, done = waiting.popleft()
                yield at, done.result()
        while waiting:
            at, done = waiting.popleft()
            yield at, done.result()
    except BrokenProcessPool as error:
        raise UserError("a process was killed", where="corpus", hint="want of memory? try fewer --workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _of(batch: Batch, code: str) -> list[str]:
    texts = batch.texts if batch.media is None else [plain(text, batch.media) for text in batch.texts]
    return list(sentences("\n".join(texts), code))


def _obey() -> None:
    """Leave interrupts to the main process, and end when it does, however it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
