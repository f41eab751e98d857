"""Splits the files of a language into sentences; parses wikitext in several processes."""

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

from xstilts.corpus.articles import Batch, is_dump, read
from xstilts.corpus.sentences import sentences
from xstilts.corpus.wikitext import HOLE, plain
from xstilts.errors import UserError


def read_sentences(paths: Sequence[str], code: str, workers: int, report: Callable[[int, int], None]) -> Iterator[str]:
    """Yield the sentences of files, in the same order for any number of processes.

    Args:
        paths: the files.
        code: the language code.
        workers: processes for wikitext; other files need only one.
        report: called after each batch with the bytes read of all files and the number of sentences.
    """
    bytes_before = count = 0
    for path in paths:
        for bytes_read, batch in _split_batches(read(path), code, workers if is_dump(path) else 1):
            count += len(batch)
            report(bytes_before + bytes_read, count)
            yield from batch
        bytes_before += Path(path).stat().st_size


def _split_batches(batches: Iterable[Batch], code: str, workers: int) -> Iterator[tuple[int, list[str]]]:
    """Yield bytes read and sentences of each batch, in order; at most two batches per process are queued."""
    if workers == 1:
        yield from ((batch.bytes_read, _split(batch, code)) for batch in batches)
        return
    queue: deque[tuple[int, Future[list[str]]]] = deque()
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_follow_parent)
    try:
        for batch in batches:
            queue.append((batch.bytes_read, pool.submit(_split, batch, code)))
            if len(queue) > 2 * workers:
                bytes_read, future = queue.popleft()
                yield bytes_read, future.result()
        while queue:
            bytes_read, future = queue.popleft()
            yield bytes_read, future.result()
    except BrokenProcessPool as error:
        raise UserError("a process was killed", where="corpus", hint="out of memory? try fewer --workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _split(batch: Batch, code: str) -> list[str]:
    texts = batch.texts if batch.media is None else [plain(text, batch.media) for text in batch.texts]
    return [sentence for sentence in sentences("\n".join(texts), code) if batch.media is None or HOLE not in sentence]


def _follow_parent() -> None:
    """Ignore interrupts, and exit when the main process ends, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def exit_after_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_after_parent, daemon=True).start()
