"""The live table of a run, as a terminal shows it: a real pseudo-terminal, whose screen pyte keeps."""

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyte
import pytest
from rich.cells import cell_len
from rich.console import Console

from conftest import Files
from test_terminal import VARIABLES
from xstilts.execution.step_times import StepTimes
from xstilts.store.run_folder import Store
from xstilts.study.load import read
from xstilts.study.plan import plan
from xstilts.utils.live_table import LiveTable, Row, StudyProgress
from xstilts.utils.progress import Progress
from xstilts.utils.terminal import can_redraw

REDRAWN = re.compile(r"(?=\r\x1b\[2K)")
"""Before a frame of the live table."""
STYLE = re.compile(r"\x1b\[[\d;]*m")


class Terminal(NamedTuple):
    """What a program wrote to its terminal, and how it ended."""

    written: str
    code: int

    def frames(self) -> Iterator[list[str]]:
        """The lines of the screen before each frame and at the end; on a wider screen, where no line is broken."""
        screen = pyte.Screen(400, 60)
        stream = pyte.Stream(screen)
        for part in REDRAWN.split(self.written):
            stream.feed(part)
            yield [line.rstrip() for line in screen.display]


def run_in_terminal(study: Files, *options: str, columns: int = 80, until: str = "", **variables: str) -> Terminal:
    """Run a study in a terminal of 40 lines; send it Ctrl-C's signal when it has written `until`."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "xstilts.cli", "run", str(study.folder / "recipe.yaml"), "--out", str(study.out)]
    process = subprocess.Popen([*command, *options], stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    written = b""
    with process, suppress(OSError):  # at the end of the closed terminal's text
        while part := os.read(screen, 100_000):
            written += part
            if until and until.encode() in written:
                process.send_signal(signal.SIGINT)
                until = ""
    os.close(screen)
    return Terminal(written.decode(), process.returncode)


@pytest.fixture
def two_tasks(study: Files) -> Files:
    """Two trained tasks, so that some scores are finished while others are not; a metric of one prints."""
    more = study.folder / "tasks.yaml"
    more.write_text(more.read_text() + "again:\n  like: xnli\n  languages: [de]\n")
    more.write_text(more.read_text() + '  data: {train: train-en.tsv, test: "test-{lang}.tsv"}\n')
    more.write_text(more.read_text() + "  metrics: [accuracy, chatty:half]\n")
    study.write("chatty.py", "def half(references, predictions):\n    print('computed by chatty')\n    return 50.0\n")
    study.edit("recipe.yaml", "name: tiny", "name: tiny\ntrust_local_code: [chatty]")
    study.edit("recipe.yaml", "each: [mine]", "each: [mine, again]")
    study.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [pairs, mine, again]")
    return study


@pytest.mark.parametrize(
    ("columns", "options", "variables"),
    [
        (60, (), {"NO_COLOR": "1"}),
        pytest.param(80, ("--workers", "2"), {}, marks=pytest.mark.slow),
        pytest.param(120, (), {}, marks=pytest.mark.slow),
        pytest.param(200, (), {}, marks=pytest.mark.slow),
    ],
)
def test_the_table_fits_the_window_and_has_the_scores_of_the_report(
    two_tasks: Files, columns: int, options: tuple[str, ...], variables: dict[str, str]
) -> None:
    shown = run_in_terminal(two_tasks, *options, columns=columns, **variables)
    assert shown.code == 0, shown.written
    *frames, last = shown.frames()
    assert max(cell_len(line) for frame in (*frames, last) for line in frame) <= columns
    [live, final] = [
        {tuple(line.replace("†", "").split()) for line in lines if re.match(r"(pairs|mine|again)†? +accuracy", line)}
        for lines in ((line for frame in frames for line in frame), last)
    ]
    live = {row for row in live if "-" not in row}
    assert live and live <= final
    assert {line for frame in (*frames, last) for line in frame if "chatty" in line} == {"computed by chatty"}
    assert any(re.match(r" *study +\d/5 steps", line) for frame in frames for line in frame)
    assert not any("study" in line for line in last)  # the table is gone, the report stands
    assert "\x1b[?25h" in shown.written.rpartition("\x1b[?25l")[2]  # the cursor is there again
    assert bool(STYLE.search(shown.written)) == ("NO_COLOR" not in variables)


def test_an_interrupt_leaves_a_terminal_without_table(study: Files) -> None:
    study.edit("recipe.yaml", "steps: 2,", "steps: 100_000,")
    shown = run_in_terminal(study, until="100,000")
    assert shown.code == 130
    *_, last = shown.frames()
    lines = [line for line in last if line]
    assert lines[-1] == "interrupted; run the same command again to continue"
    assert not any("study" in line or "left" in line for line in lines[-3:])
    assert "\x1b[?25h" in shown.written.rpartition("\x1b[?25l")[2]


def test_a_terminal_that_cannot_redraw_gets_the_lines_of_a_pipe(study: Files) -> None:
    shown = run_in_terminal(study, TERM="dumb")
    assert shown.code == 0 and "\x1b" not in shown.written
    first, second, *_ = [line for line in shown.written.splitlines() if line.startswith("[")]
    assert first == "[1/3] score pairs" and second.startswith("[1/3] score pairs: accuracy")


@contextmanager
def terminal_here(monkeypatch: pytest.MonkeyPatch, columns: int = 60) -> Iterator[Callable[[], list[str]]]:
    """Both streams of this process are a terminal within this block; gives a function that closes and reads it."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    with os.fdopen(terminal, "w", encoding="utf-8", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(sys, "stdout", stream)

        def lines() -> list[str]:
            stream.close()
            written = b""
            with suppress(OSError):
                while part := os.read(screen, 100_000):
                    written += part
            *_, last = Terminal(written.decode(), 0).frames()
            return [line for line in last if line]

        yield lines
    os.close(screen)


def test_what_is_printed_meanwhile_stands_whole_above_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal_here(monkeypatch) as lines:
        with Progress() as progress:
            assert progress.live
            workers = progress.worker_table(2)
            workers[0].step(1, 2, "target: mine, seed 1")
            sys.stdout.write("printed by a metric\n")
            sys.stderr.write("a warning\n")
            with workers.streams() as (stdout, stderr):
                code = "import os; os.write(1, b'written by a worker\\n'); os.write(2, b'and its end\\n')"
                process = subprocess.Popen([sys.executable, "-c", code], stdout=stdout, stderr=stderr)
            process.wait()
            workers[0].update(1, 20, "loss 1.234, 1,234.5 examples/s, dev 55.5", 12.0)
            workers.close()
            progress.say("a note of many words that is broken at a blank, because it does not fit the window")
        sys.stdout.write("the report\n")
        found = lines()
    note = ["a note of many words that is broken at a blank, because it", "  does not fit the window"]
    assert found[:2] == ["printed by a metric", "a warning"] and found[-3:] == [*note, "the report"]
    assert {*found[2:-3]} == {"written by a worker", "and its end"}


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_no_number_is_cut_and_steps_are_seen_below_scores_that_are_too_many(columns: int) -> None:
    console = Console(file=io.StringIO(), width=columns, height=20, force_terminal=True, color_system=None)
    table = LiveTable(console, [Row(), Row()])
    table.rows[0].begin("[3/62] target: play-questions after play-same+0.12xplay-text, seed 2", 30.0)
    table.rows[0].update("12,345/30,000 loss 0.712, 1,234 examples/s, dev 55.0", 3700.0)
    table.study = StudyProgress(2, 62, 90_000.0, {})
    table.scores = lambda _: [f"task-{number}  accuracy  50.0" for number in range(30)]
    with console.capture() as captured:
        console.print(table)
    lines = captured.get().splitlines()
    assert len(lines) < 20 and max(map(cell_len, lines)) <= columns
    cut = next(line for line in lines if "more lines" in line)
    shown = lines[1 : lines.index(cut)]
    assert shown == table.scores(columns)[: len(shown)] and cut == f"... {30 - len(shown)} more lines"
    text = " ".join(" ".join(lines).split())
    assert re.search(r"12,345/30,000( loss 0\.712(, 1,234 examples/s(, dev 55\.0)?)?)? +1:01:40", text), text
    assert "13:00:50" in text and "seed 2" in text  # half of 90,000 seconds and of the step's for each worker


def test_the_time_left_is_that_of_finished_steps_that_do_the_same(study: Files) -> None:
    assert study.run().code == 0
    store, steps = Store(study.out), [*plan(*read(str(study.folder / "recipe.yaml"))).steps.values()]
    times = StepTimes(store)
    assert times.study([], steps, 3).waiting is None and times.expected(steps[0]) is None
    for step in steps:
        times.add(step)
        assert times.expected(step) == pytest.approx(store.facts(step.id)["seconds"])
    train = next(step for step in steps if step.training)
    spec = train.training.model_copy(update={"steps": 20})  # ten times as many updates
    other = replace(train, training=spec, heading="target: other")
    assert times.expected(other) == pytest.approx(10 * times.expected(train))
    left = times.study([train], [other], 3)
    assert (left.done, left.steps, left.waiting) == (1, 3, times.expected(other))
    assert left.expected == {train.id: times.expected(train)}


def test_lines_are_redrawn_only_where_that_can_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with terminal_here(monkeypatch) as lines:
        assert can_redraw(sys.stderr)
        for name, value in {"TERM": "dumb", "CI": "true"}.items():
            with monkeypatch.context() as patched:
                patched.setenv(name, value)
                assert not can_redraw(sys.stderr), name
        lines()
    monkeypatch.setenv("FORCE_COLOR", "1")
    with (tmp_path / "log").open("w") as stream:
        assert not can_redraw(stream)
