"""`serve` answers over HTTP as `predict` does, refuses kindly, and no client hurts another; with a real server."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import SENTENCES, CliResult
from xstilts.errors import UserError
from xstilts.formats import Choose, Classify, Span, Tag
from xstilts.formats.base import Example, Format
from xstilts.model import heads
from xstilts.model.encoder import load as load_encoder
from xstilts.model.trained import HeadRecord, TrainedHead, TrainedModel
from xstilts.predict.predict_files import PredictRequest, load_requested
from xstilts.predict.predictor import Pool, Predictor, load

pytest.importorskip("starlette", reason="needs starlette and uvicorn")
pytest.importorskip("uvicorn", reason="needs starlette and uvicorn")
from xstilts.predict.server import Limits, listen, make_server

REVIEWS = Classify(labels=("bad", "fair", "good"), texts=("text",))
CASES: dict[str, tuple[Format, list[dict[str, Any]]]] = {
    "classify": (REVIEWS, [{"id": f"r{i}", "text": text} for i, text in enumerate(SENTENCES)]),
    "pairs": (
        Classify(labels=("yes", "no")),
        [{"premise": a, "hypothesis": b} for a, b in zip(SENTENCES, SENTENCES[4:], strict=False)],
    ),
    "choose": (Choose(), [{"context": SENTENCES[i], "endings": [*SENTENCES[i + 1 : i + 4]]} for i in range(6)]),
    "tag": (
        Tag(labels=("O", "B-PER", "I-PER")),
        [{"text": SENTENCES[3]}, {"words": ["Anna", "Schmidt", "schläft"]}, {"text": SENTENCES[18]}],
    ),
    "span": (Span(), [{"question": "Who sleeps?", "context": " ".join(SENTENCES[:5])}]),
}


@dataclass(frozen=True)
class Reply:
    status: int
    value: Any
    headers: dict[str, str]


@dataclass(frozen=True)
class Client:
    """A client of a server at a port of this machine."""

    port: int

    def send(self, method: str, path: str, body: str | bytes | None = None, **headers: str) -> Reply:
        """Send a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = body.encode() if isinstance(body, str) else body
        connection.request(method, path, content, {name.replace("_", "-"): text for name, text in headers.items()})
        reply = connection.getresponse()
        found = json.loads(reply.read())
        connection.close()
        assert reply.headers["content-type"] == "application/json"
        return Reply(reply.status, found, {name.lower(): text for name, text in reply.headers.items()})

    def post(self, value: Any, path: str = "/predict") -> Reply:
        """Ask for predictions."""
        return self.send("POST", path, json.dumps(value), content_type="application/json")

    def refused(self, status: int, value: Any, path: str = "/predict") -> str:
        """The messages of an answer that refuses."""
        reply = self.post(value, path)
        assert reply.status == status, reply
        return "\n".join(reply.value["errors"])

    def raw(self, content: bytes) -> socket.socket:
        """A connection on which only this was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sendall(content)
        return connection


@pytest.fixture(scope="module")
def folders(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a model with a new head, by the name of its case."""

    def folder(name: str) -> Path:
        path = tmp_path_factory.mktemp(name)
        form, encoder = CASES[name][0], load_encoder(str(encoder_folder))
        torch.manual_seed(3)
        record = HeadRecord(task=f"my-{name}", format=form, head="jiant", metric="accuracy", languages=("en",),
                            max_length=48, tokenizer=encoder.tokenizer_digest())  # fmt: skip
        head = TrainedHead(record, heads.build(form.head, encoder.config, None, "jiant"))
        TrainedModel(encoder, [head]).save(path)
        return path

    return folder


@contextmanager
def serving(predictor: Predictor, limits: Limits | None = None, pool: Pool | None = None) -> Iterator[Client]:
    """A server of the model on a thread, on a free port; it ends after its requests."""
    listening = listen("127.0.0.1", 0)
    with ThreadPoolExecutor(1) as model:
        server = make_server(predictor, model, limits or Limits(), pool)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Client(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(60)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def reviews(folders: Callable[[str], Path]) -> Predictor:
    return load(folders("classify"))


@pytest.fixture(scope="module")
def client(reviews: Predictor) -> Iterator[Client]:
    with serving(reviews) as one:
        yield one


def close_to(found: Any, expected: Any) -> bool:
    """Whether two JSON values are equal but for the last digits of their numbers, which other batches may change."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close_to(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close_to, found, expected))
    return bool(found == (pytest.approx(expected, abs=2e-4) if isinstance(expected, float) else expected))


@pytest.mark.parametrize("name", CASES)
def test_answers_are_those_of_predict(
    name: str, folders: Callable[[str], Path], tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    (form, rows), folder = CASES[name], folders(name)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = xstilts("predict", folder, tmp_path / "rows.jsonl")
    assert result.code == 0, result.err
    expected = [json.loads(line) for line in result.out.splitlines()]
    for one in expected:
        del one["text"]
    with serving(load(folder)) as client:
        whole, single = client.post({"rows": rows}), client.post(rows[0])
        description = client.send("GET", "/").value
    assert (whole.status, single.status) == (200, 200), whole.value
    assert close_to(whole.value, {"predictions": expected})
    assert close_to(single.value, expected[0])
    assert description["format"] == form.name and description["task"] == f"my-{name}"
    assert description["max_length"] == 48 and description["languages"] == ["en"]
    assert description["labels"] == list(getattr(form, "labels", None) or [])


def test_vectors(encoder_folder: Path) -> None:
    predictor = load(encoder_folder, vectors=True)
    expected = [one["vector"] for one in predictor.predict(SENTENCES[:3])]
    with serving(predictor) as client:
        found = client.post({"rows": [*SENTENCES[:3]]}).value["predictions"]
        assert client.send("GET", "/").value["format"] == "vectors"
    assert np.allclose([one["vector"] for one in found], expected, atol=1e-5)


def test_neighbours_in_a_pool_are_those_of_predict(
    encoder_folder: Path, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    """More are asked than the pool has, too."""
    (tmp_path / "pool.csv").write_text("id,saying\n" + "".join(f'{i},"{one}"\n' for i, one in enumerate(SENTENCES[:6])))
    (tmp_path / "texts.txt").write_text("\n".join(SENTENCES[6:9]), encoding="utf-8")
    asked = ("--pool", tmp_path / "pool.csv", "--field", "saying")
    result = xstilts("predict", encoder_folder, tmp_path / "texts.txt", *asked, "--input", "lines", "--top", 2)
    expected = [json.loads(line)["neighbours"] for line in result.out.splitlines()]
    request = PredictRequest(str(encoder_folder), columns={"": "saying"}, pool=str(tmp_path / "pool.csv"))
    predictor, pool = load_requested(request)
    with serving(predictor, pool=pool) as client:
        found = client.post({"rows": [*SENTENCES[6:9]]}, "/predict?top=2").value["predictions"]
        assert close_to(found, [{"neighbours": one} for one in expected])
        assert len(client.post({"text": SENTENCES[6]}, "/predict?top=20").value["neighbours"]) == 6
        description = client.send("GET", "/").value
        assert (description["format"], description["pool"]) == ("neighbours", 6)
    for option, message in (
        (("--field", "a"), "--field: names the column of a pool's texts"),
        (("--pool", "none.txt"), "none.txt: no such file"),
        (("--pool", tmp_path / "pool.csv", "--vectors"), "--pool: gives neighbours, not vectors"),
    ):
        refused = xstilts("serve", encoder_folder, *option)
        assert refused.code == 2 and message in refused.err


def test_a_row_may_be_a_text_or_a_list_of_texts(client: Client, reviews: Predictor) -> None:
    text = SENTENCES[7]
    forms: Sequence[Any] = ({"text": text}, text, [text])
    found = client.post({"rows": forms}).value["predictions"]
    assert found[0] == found[1] == found[2] == next(reviews.predict([text]))
    assert client.post({"rows": []}).value == {"predictions": []}
    assert client.send("GET", "/health").value == {"status": "ok", "waiting_rows": 0}


def test_the_address_gives_language_and_number_of_answers(folders: Callable[[str], Path]) -> None:
    predictor = load(folders("span"))
    calls: list[tuple[str, int]] = []

    class Noting(Predictor):
        def results(self, examples: Sequence[Example], *, language: str = "en", top: int = 5) -> Any:
            calls.append((language, len(examples)))
            return super().results(examples, language=language, top=top)

    predictor.__class__ = Noting
    row = CASES["span"][1][0]
    with serving(predictor) as client:
        assert len(client.post(row, "/predict?top=3&language=de").value["answers"]) == 3
        assert len(client.post(row).value["answers"]) == 5
        assert calls == [("de", 1), ("en", 1)]
        assert client.refused(422, row, "/predict?top=21") == "top is '21' (a number from 1 to 20)"
        assert client.refused(422, row, "/predict?top=%C2%B2") == "top is '²' (a number from 1 to 20)"
        assert client.refused(422, row, "/predict?language=german") == "unknown language 'german' (write de)"
        assert client.refused(422, row, "/predict?lang=de") == "unknown option 'lang' (did you mean 'language'?)"


def test_malformed_requests_are_refused_with_what_is_wrong(client: Client) -> None:
    def post(body: bytes, kind: str = "application/json") -> tuple[int, str]:
        reply = client.send("POST", "/predict", body, content_type=kind)
        return reply.status, reply.value["errors"][0]

    assert post(b'{"text": "a"') == (400, "body:1: is not JSON: Expecting ',' delimiter at column 13")
    assert post(b"") == (400, "body:1: is not JSON: Expecting value at column 1")
    assert post(b"[" * 100_000) == (400, "body: is nested too deep")
    assert post(b'{"text": "\xfc"}') == (400, "body: is not UTF-8 at byte 11")
    assert post(b'{"text": "a"}', "text/plain")[0] == 415
    assert "application/json" in post(b"text=a", "application/x-www-form-urlencoded")[1]
    marked = '\ufeff{"text": "a"}'.encode()
    assert client.send("POST", "/predict", marked, content_type="application/json; charset=utf-8").status == 200
    for value in ([], "text", 3, None):
        assert client.refused(422, value) == (
            'the body is no object; send {"rows": [...]} or a row such as {"text": ...}'
        )
    assert client.refused(422, {"rows": "text"}) == "rows is no list"
    assert "beside rows there is language (options belong to" in client.refused(422, {"rows": [], "language": "de"})
    assert client.refused(422, {"texts": "a"}) == "input:1: has no text (did you mean 'texts'?)"
    wrong = [{"text": "a"}, {"review": "a", "stars": 3}, 7, {"text": " "}, ["a", "b"], {"text": ["a"]}]
    assert client.refused(422, {"rows": wrong}).split("\n") == [
        "input:2: has no text (it has: review, stars)",
        "input:3: is no object, no text and no list of texts",
        "input:4: empty text",
        "input:5: has 2 texts (it needs text)",
        "input:6: text must be text, got ['a']",
    ]
    many = client.refused(422, {"rows": [{"review": "a"}] * 500}).split("\n")
    assert len(many) == 11 and many[-1] == "and 490 more"


def test_half_a_character_is_refused_in_a_text_and_kept_in_an_id(client: Client) -> None:
    assert "half a character" in client.refused(422, {"text": "a \ud83d"})
    assert client.post({"text": "a", "id": "\ud83d"}).value["id"] == "\ud83d"


def test_unknown_addresses_and_methods(client: Client) -> None:
    for method, path, status in (
        ("GET", "/labels", 404),
        ("POST", "/predict/", 404),
        ("GET", "/predict", 405),
        ("POST", "/", 405),
    ):
        reply = client.send(method, path)
        assert reply.status == status and len(reply.value["errors"]) == 1, (method, path)
    assert client.send("GET", "/predict").headers["allow"] == "POST"
    with client.raw(b"\x16\x03\x01 is no HTTP\r\n\r\n") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_what_is_too_large_is_refused(client: Client) -> None:
    assert client.refused(413, {"rows": ["a"] * 1001}) == "1,001 rows in a request (1,000 at most)"
    assert client.refused(413, {"text": "a" * 100_001}) == "input:1: has 100,001 characters (100,000 at most)"
    assert client.refused(413, {"text": "a" * 2**22}) == "the body has more than 1,048,576 bytes; send several requests"
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    with client.raw(head + b"Content-Length: 900000000000\r\nExpect: 100-continue\r\n\r\n") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413 "), "the server wants no body"
        while connection.recv(1000):
            pass
    with client.raw(head + b"Transfer-Encoding: chunked\r\n\r\n") as connection:
        for _ in range(20):
            connection.sendall(b"10000\r\n" + b" " * 2**16 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    assert client.post({"text": "a"}).status == 200


def test_concurrent_requests_get_their_own_answers(reviews: Predictor) -> None:
    """Sixty clients send other texts, short and long, while one sends three hundred rows and another a wrong row."""
    texts = [" ".join((*SENTENCES[i % 20 : i % 20 + i % 5 + 1], str(i))) for i in range(360)]
    expected = [*reviews.predict(texts)]
    with serving(reviews) as client, ThreadPoolExecutor(62) as threads:
        large = threads.submit(client.post, {"rows": texts[60:]})
        wrong = threads.submit(client.refused, 422, {"rows": [texts[0], {"txt": "a"}]})
        found = [*threads.map(lambda text: client.post({"text": text}), texts[:60])]
        assert large.result().status == 200 and "did you mean 'txt'?" in wrong.result()
        every = [one.value for one in found] + large.result().value["predictions"]
    assert close_to(every, expected)


def test_a_text_that_breaks_the_model_fails_alone(
    folders: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """The others in its batch are answered; the log has the place of the error, and no text."""
    predictor = load(folders("classify"))

    class Breaking(Predictor):
        def results(self, examples: Sequence[Example], *, language: str = "en", top: int = 5) -> Any:
            if any("secret" in example.texts[0] for example in examples):
                raise ValueError(f"cannot read {examples}")
            return super().results(examples, language=language, top=top)

    predictor.__class__ = Breaking
    with serving(predictor, Limits(window=0.3)) as client, ThreadPoolExecutor(5) as threads:
        texts = ["a", "a secret", "b", "c", "d"]
        replies = [*threads.map(lambda text: client.post({"text": text}), texts)]
    assert [reply.status for reply in replies] == [200, 500, 200, 200, 200]
    assert replies[1].value == {"errors": ["internal error"]}
    logged = capfd.readouterr().err
    assert "in results" in logged and "ValueError" in logged and "secret" not in logged.replace('"secret" in', "")


class Gated(Predictor):
    """A predictor that waits until its gate is open, and notes which texts it computes."""

    gate: threading.Event
    reached: threading.Event
    """A batch waits at the gate."""
    computed: list[str]

    def results(self, examples: Sequence[Example], *, language: str = "en", top: int = 5) -> Any:
        self.reached.set()
        assert self.gate.wait(60)
        self.computed.extend(example.texts[0] for example in examples)
        return super().results(examples, language=language, top=top)


@pytest.fixture
def gated(folders: Callable[[str], Path]) -> Gated:
    predictor: Any = load(folders("classify"))
    predictor.__class__, predictor.computed = Gated, []
    predictor.gate, predictor.reached = threading.Event(), threading.Event()
    assert isinstance(predictor, Gated)
    return predictor


def wait_for_rows(client: Client, number: int) -> None:
    """Wait until so many rows wait or are computed."""
    while client.send("GET", "/health").value["waiting_rows"] != number:
        time.sleep(0.02)


def test_a_full_queue_says_busy_and_answers_what_it_took(gated: Gated, reviews: Predictor) -> None:
    with serving(gated, Limits(waiting_rows=4, rows=4)) as client, ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.post, {"rows": [*SENTENCES[:3]]})
        wait_for_rows(client, 3)
        reply = client.post({"rows": [*SENTENCES[:2]]})
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert reply.value["errors"] == ["busy: 3 rows wait, of 4 that may; try again"]
        assert client.refused(413, {"rows": ["a"] * 5}) == "5 rows in a request (4 at most)"
        gated.gate.set()
        assert len(first.result().value["predictions"]) == 3
        assert client.post({"rows": [*SENTENCES[:4]]}).status == 200
    with serving(reviews, Limits(requests=1)) as client:
        with client.raw(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                        b"Content-Length: 9\r\n\r\n{"):  # fmt: skip
            while (reply := client.post({"text": "a"})).status == 200:
                time.sleep(0.02)
            assert reply.status == 503 and reply.value["errors"] == ["busy: 1 request under way; try again"]
        while client.post({"text": "a"}).status == 503:
            time.sleep(0.02)


def test_slow_and_cut_requests_hurt_nobody(reviews: Predictor) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n"
    with serving(reviews, Limits(seconds=3.0)) as client:
        silent, half = client.raw(b""), client.raw(b"POST /predict HT")
        slow, cut = client.raw(head + b'{"te'), client.raw(head + b'{"text": "a"}')
        cut.close()
        client.raw(head + b"{").close()
        assert client.post({"text": "a"}).status == 200
        assert silent.recv(10) == b"" and half.recv(10) == b"", "cut without an answer"
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
        assert client.send("GET", "/health").value == {"status": "ok", "waiting_rows": 0}
        for connection in (silent, half, slow):
            connection.close()


def test_rows_of_a_client_that_has_gone_are_not_computed(gated: Gated) -> None:
    body = b'{"text": "gone"}'
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with serving(gated) as client, ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.post, {"text": "first"})
        assert gated.reached.wait(60)  # or both texts may be in one batch
        with client.raw(head.encode() + body):
            wait_for_rows(client, 2)
        wait_for_rows(client, 1)
        gated.gate.set()
        assert first.result().status == client.post({"text": "there"}).status == 200
    assert gated.computed == ["first", "there"]


@pytest.fixture
def command(folders: Callable[[str], Path]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `xstilts serve` on the model of the reviews."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-m", "xstilts.cli", "serve", str(folders("classify")), "--port", "0", *options]
        started.append(
            subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"})
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr
        process.stderr.close()


def test_an_interrupt_ends_the_command_after_the_requests_in_flight(
    command: Callable[..., subprocess.Popen[str]],
) -> None:
    process = command()
    assert process.stderr
    found = re.search(r"serves at http://127\.0\.0\.1:(\d+); Ctrl-C ends", process.stderr.readline())
    assert found
    client = Client(int(found[1]))
    body = json.dumps({"rows": [" ".join(SENTENCES)] * 400})
    with ThreadPoolExecutor(1) as threads:
        reply = threads.submit(client.send, "POST", "/predict", body, content_type="application/json")
        while not client.send("GET", "/health").value["waiting_rows"] and not reply.done():
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        assert len(reply.result().value["predictions"]) == 400
    assert process.wait(60) == 0
    assert process.stderr.read() == "ended\n"


def test_a_public_address_is_warned_of(command: Callable[..., subprocess.Popen[str]]) -> None:
    process = command("--host", "0.0.0.0")
    assert process.stderr
    assert process.stderr.readline().startswith("--host 0.0.0.0: whoever reaches this machine may use the model")
    assert "http://0.0.0.0:" in process.stderr.readline()


def test_an_address_that_is_taken_is_refused(folders: Callable[[str], Path], xstilts: Callable[..., CliResult]) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        result = xstilts("serve", folders("classify"), "--port", port)
    assert result.code == 2
    assert result.err.startswith(f"error: 127.0.0.1:{port}: cannot listen: ") and "--port choose another" in result.err
    with pytest.raises(UserError, match="cannot listen"):
        listen("no.such.host.invalid", 0)
    result = xstilts("serve", folders("classify").parent / "none", "--port", 0)
    assert result.code == 2 and "no such folder" in result.err


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, xstilts: Callable[..., CliResult]
) -> None:
    monkeypatch.setattr("xstilts.cli.predicting.find_spec", lambda _: None)
    result = xstilts("serve", "anything")
    assert result.code == 2
    assert result.err == 'error: serve: needs the package starlette (pip install "xstilts[serve]")\n'


def test_a_client_that_takes_no_answer_is_cut(folders: Callable[[str], Path]) -> None:
    """The answer, with a place for each of many words, does not fit into the buffers between the two."""
    body = json.dumps({"rows": ["a " * 9_000] * 20}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with serving(load(folders("tag")), Limits(seconds=2.0)) as client, client.raw(b"") as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head.encode() + body)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(600):
                connection.sendall(b"\n")
                time.sleep(0.05)
