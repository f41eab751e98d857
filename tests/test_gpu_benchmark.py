"""`benchmarks/gpu.py` runs as a whole on a CPU, tiny, and says what is missing, what failed and what did not fit."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu

    return gpu


def call(*arguments: object, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, str(BENCHMARKS / "gpu.py"), *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, float | None]]:
    """The numbers of a record with their places."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{path}/{key}")
    elif value is None or isinstance(value, int | float):
        yield path, value


def test_a_dry_run_measures_every_part_on_the_cpu(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")
    page = tmp_path / "page.md"
    page.write_text("# Mine\n<!-- gpu: begin -->old<!-- gpu: end -->\nThe end.\n", encoding="utf-8")
    result = call("--dry-run", "--json", tmp_path / "numbers.json", "--write", page)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    assert record["dry_run"] and record["machine"]["device"] == "CPU" and record["seconds"] < 480
    assert record["failed"] == record["not_measured"] == record["notes"] == []
    assert record["tests"]["skipped"] > 0 == record["tests"]["failed"]
    only_on_a_gpu = ("/cuda", "/device_bytes", "_per_update", "/passed", "/failed")
    for place, value in numbers(record):
        if "tokens_per_update" in place or not place.endswith(only_on_a_gpu):
            assert value, f"{place} was not measured"
    written = page.read_text(encoding="utf-8")
    assert written.startswith("# Mine\n") and written.endswith("The end.\n") and "old" not in written
    assert all(f"\n| {name} | " in written for name in (*record["training"], *record["evaluation"]))
    assert "these numbers say nothing about a GPU" in written


def test_a_file_in_no_folder_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    result = call("--dry-run", "--json", tmp_path / "none" / "numbers.json")
    assert result.returncode == 2 and f"there is no folder {tmp_path / 'none'}" in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    pytest.importorskip("accelerate", reason="it is asked for first")
    result = call()
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1 and "no GPU" in result.stderr and "--dry-run" in result.stderr


def test_it_names_the_packages_that_are_missing() -> None:
    result = call("--dry-run", python=("-I", "-S"))  # a Python without any package
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert all(name in result.stderr for name in ("torch", "transformers", "pydantic", "accelerate", "pytest"))


def test_a_part_that_fails_or_takes_too_long_leaves_the_others(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "LEAST", 0.0)
    record: dict[str, Any] = {"failed": [], "not_measured": []}
    found: dict[str, float] = {}

    def fail(_: float) -> None:
        raise RuntimeError("no kernel image\nis available")

    def full(_: float) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    def stubborn(_: float) -> None:
        for _ in range(2):
            try:
                time.sleep(30)
            except Exception:  # as a library may; the end of the time is no such error
                continue

    saved: list[str] = []
    parts = [
        gpu.Part("one", 5, {}, fail),
        gpu.Part("two", 0.05, {}, stubborn),
        gpu.Part("three", 5, found, lambda seconds: found.update(speed=12_000, seconds=seconds)),
    ]
    gpu.measure(parts, time.monotonic() + 100, record, lambda: saved.append("saved"))
    assert record["failed"] == ["one: RuntimeError: no kernel image"]
    assert record["not_measured"] == ["two: did not end within 0.05 s"]
    assert found == {"speed": 12_000, "seconds": 5} and len(saved) == 3
    assert re.search(r"^three, \d+ s: speed 12,000, seconds 5$", capsys.readouterr().err, re.MULTILINE)
    gpu.measure(parts[2:], time.monotonic() - 1, record, lambda: None)
    gpu.measure([gpu.Part("four", 5, {}, full)], time.monotonic() + 100, record, lambda: None)
    assert record["not_measured"][1:] == ["three: no time was left", "four: out of memory"]
    assert len(record["failed"]) == 1


@pytest.mark.usefixtures("gpu")
def test_launches_and_waits_are_counted_by_the_names_of_the_runtime() -> None:
    from gpu_parts import launches

    names = {
        "cudaLaunchKernel": 90, "cudaLaunchKernelExC": 7, "cuLaunchKernelEx": 3, "cudaMemcpyAsync": 9, "aten::mm": 90,
        "cudaStreamSynchronize": 4, "cudaEventSynchronize": 1, "cudaDeviceSynchronize": 2,
    }  # fmt: skip
    events = [SimpleNamespace(key=name, count=count) for name, count in names.items()]
    assert launches(events) == (100, 5)


def test_what_was_not_measured_is_a_dash(gpu: ModuleType) -> None:
    from gpu_table import text

    record = gpu.empty_record(torch.device("cpu"), dry=False)
    record["not_measured"].append("mask, Trainer: no time was left")
    record["training"]["nli"]["xstilts"] |= {"tokens_per_second": 45_678.9, "share_of_peak": 0.1234}
    shown = text(record)
    assert "| nli | – | – | 45,679 | 12.3 | – |" in shown and "Not measured: mask, Trainer: no time was left." in shown
    assert "None" not in shown and "nan" not in shown
