"""What people see in a terminal: lines that fit the window, colours only where wanted, plain text in a pipe."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress

import pytest

from conftest import Files
from xstilts.utils.terminal import wrap

STYLE = re.compile(r"\x1b\[[\d;]*m")
VARIABLES = ("COLUMNS", "LINES", "CI", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "XSTILTS_DATA")


def in_terminal(*arguments: object, columns: int = 80, **variables: str) -> str:
    """What the command line writes to a terminal of this width, escape sequences included."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "xstilts.cli", *map(str, arguments)]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        parts = []
        with suppress(OSError):  # at the end of the closed terminal's text
            while part := os.read(screen, 100_000):
                parts.append(part)
        os.close(screen)
        assert process.wait(timeout=60) == 0
    return b"".join(parts).decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_a_plan_fits_the_window(study: Files, columns: int) -> None:
    """Below the table, too. In a pipe its lines are as long as they need to be."""
    command = ("plan", study.folder / "recipe.yaml", "--out", study.out)
    shown, piped = STYLE.sub("", in_terminal(*command, columns=columns)), study.call(*command).out
    assert max(map(len, shown.splitlines())) <= columns and "…" not in shown
    assert max(map(len, piped.splitlines())) > 200
    notes = piped[piped.index("target: mine: lr") :]
    assert " ".join(notes.split()) in " ".join(shown.split())  # no word of them is broken
    for line in (line for line in piped.splitlines() if line.startswith("│")):
        id, _, seed, what = (cell.strip() for cell in line.strip("│").split("│"))
        assert id in shown and (what in shown or columns < 200), line
        assert not seed or re.search(rf"{id}\b[^║]*?\b{seed}\b", shown)


def test_no_colour_means_no_escape_sequence(study: Files) -> None:
    command = ("plan", study.folder / "recipe.yaml")
    wide = 300  # a table, whatever the length of the folder's name
    assert "\x1b[1m" in in_terminal(*command, columns=wide)
    plain = (in_terminal(*command, columns=wide, **variable) for variable in ({"NO_COLOR": "1"}, {"TERM": "dumb"}))
    assert "\x1b" not in "".join(plain)


def test_a_wrapped_line_keeps_numbers_with_their_units_and_its_margin() -> None:
    assert wrap("disk: at most 44.6 MB", 19) == ["disk: at most", "  44.6 MB"]
    assert wrap("dev: at most 21 %, or less", 16) == ["dev: at most", "  21 %, or less"]
    assert wrap("  missing: de en fr", 14) == ["  missing: de", "    en fr"]
    assert wrap("言語 言語 言語", 9) == ["言語 言語", "  言語"]
    assert wrap("", 60) == [""]
    assert wrap("in /data/of/some/depth", 12) == ["in", "  /data/of/", "  some/depth"]
    assert "".join(wrap("word " * 5, 1)).split() == ["word"] * 5
