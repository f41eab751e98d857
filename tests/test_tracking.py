"""Logs handed to trackers: each row once, after a kill and a repeated training too; while a run goes on; read back."""

import importlib.util
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Files
from xstilts.tracking import replay, tracker

PLUG_IN = """
import json, os
class Notes:
    def __init__(self, out): self.path = out / "notes.jsonl"
    def start(self, name, settings, *, resume): self.say(start=name, seed=settings["seed"], resume=resume)
    def log(self, step, scalars): self.say(step=step, **scalars)
    def finish(self): self.say(finish=True)
    def say(self, **row):
        if row.get("step") and os.environ.get("NOTES_FAIL"): raise RuntimeError("no connection")
        with self.path.open("a") as file: print(json.dumps(row), file=file)
"""


@pytest.fixture
def ran(study: Files, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A study with the tracker `notes`, which an installed package brings."""
    study.write("notes_tracker.py", PLUG_IN)
    (study.folder / "notes-1.dist-info").mkdir()
    study.write("notes-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: notes\nVersion: 1\n")
    study.write("notes-1.dist-info/entry_points.txt", "[xstilts.trackers]\nnotes = notes_tracker:Notes\n")
    monkeypatch.syspath_prepend(study.folder)
    return study


def training_log(files: Files) -> Path:
    """The log of the study's only training."""
    return next(files.out.glob("steps/*/log.jsonl"))


def notes(files: Files) -> list[dict[str, object]]:
    """What the tracker was given since this was last asked."""
    path = files.out / "notes.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    return rows


def test_each_row_of_a_log_is_handed_on_once(ran: Files) -> None:
    assert ran.run().code == 0
    log = training_log(ran)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert ran.call("track", ran.out, "--to", "notes").out == f"1 training, {len(rows)} new rows\n"
    first, *points, last = notes(ran)
    assert str(first["start"]).endswith(log.parent.name) and (first["seed"], first["resume"]) == (1, False)
    assert last == {"finish": True}
    losses = [row for row in rows if "dev" not in row]
    assert [(point["step"], point["loss"]) for point in points if "loss" in point] == [
        (row["step"], row["loss"]) for row in losses
    ]
    assert [point for point in points if "dev" in point] == [
        {"step": row["step"], "dev": row["dev"]} for row in rows if "dev" in row
    ]
    assert "1 training, 0 new rows" in ran.call("track", ran.out, "--to", "notes").out and not notes(ran)

    with log.open("a") as file:  # the training goes on; its last row is not whole yet
        file.write(json.dumps({**losses[-1], "step": 9}) + "\n" + '{"step": 10, "lo')
    assert "1 new row" in ran.call("track", ran.out, "--to", "notes").out
    assert [row.get("step", row.get("resume")) for row in notes(ran)] == [True, 9, None]

    log.write_text(json.dumps({**rows[0], "seconds": 77.0}) + "\n")  # it was started again
    assert "1 new row" in ran.call("track", ran.out, "--to", "notes").out
    assert [row.get("step", row.get("resume")) for row in notes(ran)] == [False, rows[0]["step"], None]


def test_a_training_that_resumes_from_a_checkpoint_is_handed_on_from_where_it_was(ran: Files) -> None:
    assert ran.run().code == 0
    log = training_log(ran)
    begin, row = log.read_text(), json.loads(log.read_text().splitlines()[-1])
    later = [json.dumps({"step": step, "loss": row["loss"]}) + "\n" for step in (21, 22, 23)]
    log.write_text(begin + later[0] + later[1])
    ran.call("track", ran.out, "--to", "notes")
    notes(ran)
    for text, steps in ((begin, []), (begin + later[0], []), (begin + "".join(later), [23])):
        log.write_text(text)
        ran.call("track", ran.out, "--to", "notes")
        assert [row["step"] for row in notes(ran) if "step" in row] == steps


def test_a_tracker_that_fails_in_the_middle_gets_the_training_again_whole(
    ran: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTES_FAIL", "1")
    result = ran.run("--track", "notes")
    assert result.code == 0 and "the tracker stops: no connection; the run goes on" in result.err
    refused = ran.call("track", ran.out, "--to", "notes")
    assert (refused.code, refused.err) == (2, "error: --to notes: the tracker failed: no connection\n")
    monkeypatch.delenv("NOTES_FAIL")
    notes(ran)
    assert ran.call("track", ran.out, "--to", "notes").code == 0
    assert [row["resume"] for row in notes(ran) if "start" in row] == [False]


def test_a_run_hands_its_rows_on_while_it_trains(ran: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "LIVE_SECONDS", 0.01)
    ran.edit("recipe.yaml", "steps: 2", "steps: 40")
    assert ran.run("--track", "notes").code == 0
    given, rows = notes(ran), training_log(ran).read_text().splitlines()
    assert len([row for row in given if "step" in row]) == len(rows) > 2
    assert [row["resume"] for row in given if "start" in row][:1] == [False]
    assert ran.call("track", ran.out, "--to", "notes").out == "1 training, 0 new rows\n"


def test_a_tracker_that_is_not_there_is_refused_before_any_work(ran: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tracker.PACKAGES, "trackio", "no_such_package")
    result = ran.run("--track", "trackio")
    assert result.code == 2 and not ran.out.exists()
    assert result.err == ("error: --track trackio: no_such_package is not installed (pip install 'xstilts[trackio]')\n")
    ran.edit("notes-1.dist-info/entry_points.txt", ":Notes", ":Nodes")
    assert "--track notes (notes_tracker:Nodes): cannot be loaded" in ran.run("--track", "notes").err
    assert (
        "error: --track tensorbord: no such tracker (did you mean 'tensorboard'?)"
        in ran.run("--track", "tensorbord").err
    )
    assert "no such run folder" in ran.call("track", ran.out, "--to", "notes").err


def test_a_run_folder_without_a_log_and_a_damaged_record_are_messages(ran: Files) -> None:
    assert ran.run().code == 0
    log = training_log(ran)
    rows = log.read_text()
    log.unlink()
    assert ran.call("track", ran.out, "--to", "notes").err == f"error: {ran.out}: has no training yet\n"
    log.write_text(rows)
    ran.write("out/tracked/notes.json", "{")
    result = ran.call("track", ran.out, "--to", "notes")
    assert result.code == 2
    assert "notes.json: cannot be read (delete it: all trainings are handed on again)" in result.err


def events(folder: Path) -> Iterator[tuple[str, int, float]]:
    """The points in TensorBoard's event files: each record has its length, a checksum, an event, another checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            yield from ((value.tag, event.step, value.simple_value) for value in event.summary.value)
            at += 16 + length


def test_tensorboards_event_files_have_the_points_of_the_log(study: Files) -> None:
    pytest.importorskip("tensorboardX", reason="needs tensorboardX: pip install 'xstilts[tensorboard]'")
    assert study.run("--track", "tensorboard").code == 0
    log = training_log(study)
    with log.open("a") as file:
        file.write('{"step": 9, "loss": 1.5}\n')
    assert study.call("track", study.out, "--to", "tensorboard").out == "1 training, 1 new row\n"
    (folder,) = (study.out / "tensorboard").iterdir()
    assert folder.name.endswith(log.parent.name)
    expected = [
        (tag, row["step"], value)
        for row in map(json.loads, log.read_text().splitlines())
        for tag, value in replay.scalars(row).items()
    ]
    found = list(events(folder))
    if importlib.util.find_spec("tensorboard"):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        reader = EventAccumulator(str(folder)).Reload()
        found = [(tag, one.step, one.value) for tag in reader.Tags()["scalars"] for one in reader.Scalars(tag)]
    assert sorted(point[:2] for point in found) == sorted(point[:2] for point in expected)
    assert [point[2] for point in sorted(found)] == pytest.approx([point[2] for point in sorted(expected)])


@pytest.mark.slow
def test_trackios_database_has_the_points_of_the_log_once(study: Files) -> None:
    pytest.importorskip("trackio", reason="needs trackio: pip install 'xstilts[trackio]'")
    assert study.run().code == 0
    log = training_log(study)
    environment = {**os.environ, "TRACKIO_DIR": str(study.folder / "trackio")}  # trackio reads it when it is imported

    def call(*arguments: object) -> str:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True).stdout

    track = ("-m", "xstilts.cli", "track", study.out, "--to", "trackio")
    assert call(*track) == f"1 training, {len(log.read_text().splitlines())} new rows\n"
    with log.open("a") as file:
        file.write('{"step": 9, "loss": 1.5}\n')
    assert call(*track) == "1 training, 1 new row\n"
    read = "import json, sys; from trackio.sqlite_storage import SQLiteStorage as S; (project,) = S.get_projects(); "
    read += "(run,) = S.get_runs(project); print(json.dumps([project, run, S.get_logs(project, run)]))"
    project, run, found = json.loads(call("-c", read))
    assert project == f"{study.folder.name}-out" and run.endswith(log.parent.name)
    losses = [row for row in map(json.loads, log.read_text().splitlines()) if "dev" not in row]
    assert [(point["step"], point["loss"]) for point in found if "loss" in point] == [
        (row["step"], row["loss"]) for row in losses
    ]

    (study.out / "tracked/trackio.json").unlink()  # as if it had been killed: the run is replaced
    assert call(*track).endswith(" new rows\n")
    assert len(json.loads(call("-c", read))[2]) == len(found)
