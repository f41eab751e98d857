"""What the benchmarks share: where they were measured, and where their figures are written."""

from __future__ import annotations

import datetime
import os
import platform
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch


def measured(*packages: str) -> str:
    """When, by which command, where and with what this was measured."""
    info = Path("/proc/cpuinfo")
    known = info.read_text(encoding="utf-8") if info.exists() else ""
    found = re.search(r"^model name\s*: (.*)$", known, re.MULTILINE)
    name = found[1] if found else platform.processor() or platform.machine()
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    versions = ", ".join(
        [f"Python {platform.python_version()}", *(f"{package} {version(package)}" for package in packages)]
    )
    where = f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; {versions}."
    return f"Measured {datetime.date.today()} by `{command}` on {where}"


@contextmanager
def watched(peak: list[int]) -> Iterator[None]:
    """Note the most anonymous memory the process has meanwhile, in bytes; pages of mapped files do not count."""

    def now() -> int:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], now() - before)

    done, before = threading.Event(), now()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def write(path: Path, name: str, text: str) -> None:
    """Put the text between the two markers of this name in a file, or at its end."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = path.read_text(encoding="utf-8") if path.exists() else "# Benchmarks\n"
    if begin not in old:
        old = f"{old}\n{begin}{end}\n"
    before, rest = old.split(begin, 1)
    after = rest.split(end, 1)[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def publish(path: Path | None, name: str, text: str, *packages: str) -> None:
    """Print the figures with how they were measured, and write them where asked."""
    messages = f"{text}\n\n{measured(*packages)}"
    print(messages)
    if path:
        write(path, name, messages)


def met(yes: bool) -> str:
    """What became of a target."""
    return "met" if yes else "missed"
