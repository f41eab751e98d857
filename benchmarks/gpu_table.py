"""The tables of `gpu.py`, from its record."""

from __future__ import annotations

from typing import Any

GIB = 2**30


def number(value: float | None, form: str = ",.0f", scale: float = 1.0) -> str:
    """A number as the tables have it; a dash if it was not measured."""
    return "–" if value is None else format(value * scale, form)


def training_row(name: str, one: dict[str, Any]) -> str:
    """A row of the table of trainings."""
    ours, theirs = one["xstilts"], one["trainer"]
    cells = [
        name,
        number(one["tokens_per_update"]),
        number(one["padding"], ".2f"),
        number(ours["tokens_per_second"]),
        number(ours["share_of_peak"], ".1f", 100),
        number(ours["kernels_per_update"]),
        number(ours["waits_per_update"], ".1f"),
        number(ours["memory_bytes"], ".1f", 1 / GIB),
        number(theirs["tokens_per_second"]),
        number(theirs["memory_bytes"], ".1f", 1 / GIB),
        number(one["times_as_fast"], ".2f"),
    ]
    return f"| {' | '.join(cells)} |"


def text(record: dict[str, Any]) -> str:
    """All figures as Markdown."""
    peak, tests, search = record["flop_per_second"], record["tests"], record["search"]
    lines = [
        f"{record['machine']['device']}; matrix products: {number(peak['bf16'], '.4g', 1e-12)} TFLOP/s in bf16, "
        f"{number(peak['fp32'], '.4g', 1e-12)} in fp32 without TF32. Tests marked `cuda`: {number(tests['passed'])} "
        f"passed, {number(tests['failed'])} failed, {number(tests['skipped'])} skipped. {record['seconds']:.0f} s.",
        "",
        "| training, bf16 | tokens an update | with padding, times | xstilts, tokens/s | % of peak | kernels an update "
        "| waits an update | memory, GiB | Trainer, tokens/s | memory, GiB | times as fast |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(training_row(name, one) for name, one in record["training"].items()),
        "",
        "| evaluation, bf16 | tokens | tokens/s | % of peak | memory, GiB |",
        "|---|---:|---:|---:|---:|",
        *(f"| {name} | {number(one['tokens'])} | {number(one['tokens_per_second'])} "
          f"| {number(one['share_of_peak'], '.1f', 100)} | {number(one['memory_bytes'], '.1f', 1 / GIB)} |"
          for name, one in record["evaluation"].items()),
        "",
        "| neighbours, fp32 | width | seconds | TFLOP/s | % of the product's | memory, GiB |",
        "|---:|---:|---:|---:|---:|---:|",
        f"| {number(search['vectors'])} a side | {number(search['width'])} | {number(search['seconds'], '.1f')} "
        f"| {number(search['flop_per_second'], '.3g', 1e-12)} | {number(search['share_of_fp32_peak'], '.1f', 100)} "
        f"| {number(search['memory_bytes'], '.1f', 1 / GIB)} |",
    ]  # fmt: skip
    for title, found in (("Failed", "failed"), ("Not measured", "not_measured"), ("Notes", "notes")):
        if record[found]:
            lines += ["", f"{title}: {'; '.join(record[found])}."]
    if record["dry_run"]:
        lines[:0] = ["A dry run on the CPU with a tiny encoder: these numbers say nothing about a GPU.", ""]
    return "\n".join(lines)
