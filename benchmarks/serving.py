"""Measures a server under many clients: seconds of an answer, answers a second, answers lost or of another text."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch

import figures
import works
from xstilts.formats import Classify
from xstilts.model import heads
from xstilts.model.encoder import load
from xstilts.model.trained import HeadRecord, TrainedHead, TrainedModel
from xstilts.predict.predictor import Predictor

MAX_LENGTH = 128
ROUNDING = 2e-4
"""Two of the last decimal place of a probability."""


@dataclass
class Load:
    """What became of the requests of a number of clients."""

    clients: int
    seconds: float = 0.0
    taken: list[float] = field(default_factory=list)
    """Seconds of each answered request, the tries that found the server busy included."""
    busy: int = 0
    lost: int = 0
    wrong: int = 0

    def row(self) -> str:
        """A row of the table."""
        taken = sorted(self.taken)
        p50, p99 = (1000 * taken[min(len(taken) - 1, int(share * len(taken)))] for share in (0.5, 0.99))
        return (
            f"| {self.clients} | {len(taken):,} | {len(taken) / self.seconds:.0f} | {p50:.0f} | {p99:.0f} "
            f"| {self.busy:,} | {self.lost} | {self.wrong} |"
        )


async def ask(port: int, texts: Sequence[str], expected: Sequence[Any], load: Load) -> None:
    """One client: a connection, a request after another, each for one text; busy ones are repeated when it is time."""
    clock = asyncio.get_running_loop().time
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for text, result in zip(texts, expected, strict=True):
        body, started = json.dumps({"text": text}).encode(), clock()
        while True:
            writer.write(b"POST /predict HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                         b"Content-Length: %d\r\n\r\n" % len(body) + body)  # fmt: skip
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                answer = json.loads(await reader.readexactly(int(length[1]))) if length else {}
            except (asyncio.IncompleteReadError, ConnectionError):
                load.lost += 1
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            if b" 503 " not in head[:20]:
                load.taken.append(clock() - started)
                load.wrong += not equal(answer, result)
                break
            load.busy += 1
            await asyncio.sleep(1)
    writer.close()


def equal(answer: Any, result: Any) -> bool:
    """Whether the probabilities are the same but for the rounding of another batch."""
    found, expected = answer.get("probabilities", {}), result["probabilities"]
    return found.keys() == expected.keys() and all(abs(found[key] - expected[key]) < ROUNDING for key in found)


async def loaded(port: int, texts: Sequence[str], expected: Sequence[Any], clients: int) -> Load:
    """All clients at once; each has its part of the texts."""
    load, clock = Load(clients), asyncio.get_running_loop().time
    started = clock()
    await asyncio.gather(*(ask(port, texts[i::clients], expected[i::clients], load) for i in range(clients)))
    load.seconds = clock() - started
    return load


def trained(encoder_folder: Path, to: Path) -> Predictor:
    """A model with a new head that has the classes of XNLI, for single texts, in a folder; and loaded."""
    encoder = load(str(encoder_folder))
    torch.manual_seed(2)
    form = Classify(labels=("contradiction", "entailment", "neutral"), texts=("text",))
    head = heads.build(form.head, encoder.config, None, "jiant")
    record = HeadRecord(task="bench", format=form, head="jiant", metric="accuracy", languages=("en",),
                        max_length=MAX_LENGTH, tokenizer=encoder.tokenizer_digest())  # fmt: skip
    model = TrainedModel(encoder, [TrainedHead(record, head)])
    model.save(to)
    return Predictor(model, 0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--encoder", type=Path, required=True, help="folder of an encoder")
    add("--requests", type=int, default=2000, help="of each number of clients (default: %(default)s)")
    add("--clients", type=int, nargs="*", default=[1, 20, 200], help="(default: 1 20 200)")
    args: Any = works.arguments(parser, layers=0, hidden=0, vocabulary=0)
    texts = [text for example in works.WORKS["nli"].examples(args.data) for text in example.texts]
    Random(1).shuffle(texts)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        predictor = trained(args.encoder, Path(folder))
        texts = (texts * (args.requests // len(texts) + 1))[: args.requests]
        expected = [*predictor.predict(texts)]
        command = [sys.executable, "-m", "xstilts.cli", "serve", folder, "--port", "0"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"})
        try:
            assert server.stderr
            port = int(re.findall(r":(\d+); Ctrl-C", server.stderr.readline())[0])
            asyncio.run(loaded(port, texts[:200], expected[:200], 20))  # warms up
            for clients in args.clients:
                number = len(texts) if clients > 1 else len(texts) // 10
                rows.append(asyncio.run(loaded(port, texts[:number], expected[:number], clients)).row())
                print(rows[-1], file=sys.stderr, flush=True)
        finally:
            server.terminate()
            server.wait()
    busy = f"{os.getloadavg()[0]:.0f} processes wanted the {os.cpu_count()} cores meanwhile"
    text = "\n".join([
        f"Encoder {args.encoder.name}, fp32, one text a request; clients and server on the same machine; {busy}.",
        "",
        "| clients | answers | answers/s | p50, ms | p99, ms | busy, repeated | lost | of another text |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
        *rows,
    ])  # fmt: skip
    figures.publish(args.write, "serving", text, "torch", "starlette", "uvicorn")


if __name__ == "__main__":
    main()
