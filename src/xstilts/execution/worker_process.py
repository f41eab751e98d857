"""The program of a worker process on this machine; it ends at once when the main process dies.

It runs as a file, and imports torch only after it has begun to watch the main process: the import takes seconds, and
the main process may be killed meanwhile.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from multiprocessing.connection import Connection


def main(descriptor: int) -> None:
    """Receive the import path and the run through the pipe, watch the main process, then do steps."""
    pipe = Connection(descriptor)
    sys.path[:] = pipe.recv()
    spec = pipe.recv_bytes()
    threading.Thread(target=_exit_with_main_process, args=(descriptor,), daemon=True).start()
    from xstilts.execution.worker import serve  # torch from here on

    serve(pipe, spec)


def _exit_with_main_process(descriptor: int) -> None:
    """Wait until the other end of the pipe closes, then end as if killed."""
    closed = select.poll()
    closed.register(descriptor, 0)
    closed.poll()
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
