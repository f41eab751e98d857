"""Serves a model over HTTP: a route for predictions, with limits, a bounded queue and timeouts."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from xstilts import languages
from xstilts.data.lines import parse_json
from xstilts.errors import Collector, DataError, UserError, counted, listed, nearest
from xstilts.formats.base import Example
from xstilts.predict.batching import Batcher, Busy
from xstilts.predict.outputs import as_json
from xstilts.predict.predictor import Pool, Predictor, row_size
from xstilts.utils.progress import Progress

SHOWN_MISTAKES = 10
"""The most mistakes of a request's rows that its answer names."""
MOST_ANSWERS = 20
"""The largest `top`."""
LOGGER = logging.getLogger("xstilts.serve")


@dataclass(frozen=True)
class Limits:
    """Bounds of a request, and of all requests together."""

    bytes: int = 2**20
    """Of a request's body."""
    rows: int = 1000
    """Of a request."""
    characters: int = 100_000
    """Of a row."""
    waiting_rows: int = 2048
    """Rows of all requests that wait or are computed."""
    requests: int = 512
    """Requests that are read or answered at the same time; bounds the memory of their bodies."""
    seconds: float = 30.0
    """For the headers of a request, for its body, and for a client to take its answer."""
    window: float = 0.005
    """Seconds that a row waits for others while the model is free."""


class Service:
    """The routes of a model, or of a pool of texts whose vectors it has made."""

    def __init__(self, predictor: Predictor, thread: Executor, limits: Limits, pool: Pool | None = None) -> None:
        self._predictor, self._thread, self._limits = predictor, thread, limits
        self._results = predictor.results if pool is None else pool.neighbours
        self._requests = 0
        record, form = predictor.record, predictor.format
        self._columns = {*form.fields, *predictor.inputs, "id"} if record else {*predictor.inputs}
        self.description = {
            "task": record.task if record else None,
            "format": form.name if record else "vectors" if pool is None else "neighbours",
            **({} if pool is None else {"pool": len(pool.texts)}),
            "inputs": predictor.inputs,
            "labels": predictor.labels,
            "languages": record.languages if record else (),
            "max_length": predictor.max_length,
            "notes": predictor.notes,
            "limits": {"rows": limits.rows, "characters": limits.characters, "bytes": limits.bytes,
                       "waiting_rows": limits.waiting_rows},
            "routes": {
                "POST /predict": 'JSON: {"rows": [ROW, ...]}, or a single ROW; ?language=CODE&top=N',
                "GET /health": "whether it answers, and how many rows wait",
                "GET /": "this description",
            },
        }  # fmt: skip

    def app(self) -> Starlette:
        """The application; it answers while its lifespan lasts."""
        routes = [
            Route("/", self._describe),
            Route("/health", self._health),
            Route("/predict", self._predict, methods=["POST"]),
        ]
        handlers: Mapping[Any, Any] = {HTTPException: _refused, Exception: _failed}
        app = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)
        app.router.redirect_slashes = False
        return app

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(_log_without_text)
        self._batcher = Batcher(self._results, self._thread, window=self._limits.window,
                                most_rows=self._limits.waiting_rows)  # fmt: skip
        task = asyncio.create_task(self._batcher.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def _describe(self, _: Request) -> Response:
        return _answer(self.description)

    async def _health(self, _: Request) -> Response:
        return _answer({"status": "ok", "waiting_rows": self._batcher.rows})

    async def _predict(self, request: Request) -> Response:
        if self._requests == self._limits.requests:
            raise _busy(f"busy: {counted(self._requests, 'request')} under way; try again")
        self._requests += 1
        try:
            language, top = _options(request)
            value = _parsed(await self._body(request))
            given, single = self._given(value)
            examples, sizes = self._examples(given)
            results = await _unless_disconnected(
                request, self._batcher.predict(examples, sizes, language=language, top=top)
            )
        except Busy as error:
            raise _busy(error.message) from error
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        finally:
            self._requests -= 1
        ids = [getattr(example, "id", None) for example in examples]
        found = [{**({} if id is None else {"id": id}), **one} for id, one in zip(ids, results, strict=True)]
        return _answer(found[0] if single else {"predictions": found})

    async def _body(self, request: Request) -> bytes:
        """The body of a request, if it is JSON, not too large, and there in time."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            given = f"'{kind}'" if kind else "not given"
            raise HTTPException(415, f"Content-Type is {given} (send the header `Content-Type: application/json`)")
        most = self._limits.bytes
        # a client that sent `Expect: 100-continue` does not send the body now, so it needs a new connection
        headers = {"Connection": "close"} if "expect" in request.headers else None
        too_large = HTTPException(413, f"the body has more than {most:,} bytes; send several requests", headers)
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > most:
                        raise too_large
        except TimeoutError as error:
            what = f"the body did not arrive within {self._limits.seconds:g} seconds"
            raise HTTPException(408, what, {"Connection": "close"}) from error
        return bytes(body)

    def _given(self, value: Any) -> tuple[list[Any], bool]:
        """The rows of a request, and whether it is a single row by itself."""
        if not isinstance(value, dict):
            columns = ", ".join(f'"{name}": ...' for name in self._predictor.inputs)
            raise HTTPException(422, f'the body is no object; send {{"rows": [...]}} or a row such as {{{columns}}}')
        if "rows" not in value or "rows" in self._columns:
            return [value], True
        if others := value.keys() - {"rows"}:
            hint = "options belong to the address: /predict?language=de&top=3"
            raise HTTPException(422, f"beside rows there is {listed(sorted(others), 5)} ({hint})")
        rows = value["rows"]
        if not isinstance(rows, list):
            raise HTTPException(422, "rows is no list")
        if len(rows) > self._limits.rows:
            raise HTTPException(413, f"{len(rows):,} rows in a request ({self._limits.rows:,} at most)")
        return rows, False

    def _examples(self, given: Sequence[Any]) -> tuple[list[Example], list[int]]:
        """The examples of the rows, and the characters of each; an answer names the rows with mistakes."""
        mistakes, examples, sizes = Collector(), list[Example](), list[int]()
        for number, one in enumerate(given, start=1):
            with mistakes.catch():
                if not isinstance(one, str | dict) and not (isinstance(one, list) and _are_texts(one)):
                    raise DataError("is no object, no text and no list of texts", where=f"input:{number}")
                row = self._predictor.row(one, number)
                sizes.append(row_size(row))
                if sizes[-1] > self._limits.characters:
                    most = f"{self._limits.characters:,} at most"
                    raise HTTPException(413, f"input:{number}: has {sizes[-1]:,} characters ({most})")
                examples.append(self._predictor.example(row))
        if errors := [str(error) for error in mistakes.errors]:
            more = [f"and {len(errors) - SHOWN_MISTAKES:,} more"] if len(errors) > SHOWN_MISTAKES else []
            raise HTTPException(422, "\n".join([*errors[:SHOWN_MISTAKES], *more]))
        return examples, sizes


def _are_texts(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _options(request: Request) -> tuple[str, int]:
    """The language and the number of answers that the address gives."""
    known = {"language": languages.ENGLISH, "top": "5"}
    for name in request.query_params:
        if name not in known:
            raise HTTPException(422, f"unknown option '{name}' ({nearest(name, known)})")
    given = known | dict(request.query_params)
    code, top = given["language"], given["top"]
    if not languages.well_formed(code) or languages.as_code(code) != code:
        raise HTTPException(422, f"unknown language '{code}' ({languages.hint(code)})")
    if not (top.isascii() and top.isdecimal() and len(top) < 3 and 1 <= int(top) <= MOST_ANSWERS):
        raise HTTPException(422, f"top is '{top}' (a number from 1 to {MOST_ANSWERS})")
    return code, int(top)


def _parsed(body: bytes) -> Any:
    """The JSON value of a body."""
    try:
        return parse_json(body.decode("utf-8-sig"), "body")
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"body: is not UTF-8 at byte {error.start + 1}") from error
    except DataError as error:
        raise HTTPException(400, str(DataError(error.message, where=error.where))) from error


async def _unless_disconnected(request: Request, predicting: Any) -> list[dict[str, Any]]:
    """The predictions; they are cancelled as soon as the client has gone.

    Raises:
        ClientDisconnect: it has gone.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answer, watch = asyncio.ensure_future(predicting), asyncio.ensure_future(gone())
    try:
        await asyncio.wait([answer, watch], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        results: list[dict[str, Any]] = answer.result()
        return results
    finally:
        answer.cancel()
        watch.cancel()


def _answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON; half a character (a lone surrogate), which UTF-8 cannot encode, is escaped."""
    content = (as_json(value) + "\n").encode("utf-8", "backslashreplace")
    return Response(content, status, headers, media_type="application/json")


def _busy(message: str) -> HTTPException:
    return HTTPException(503, message, {"Retry-After": "1"})


def _refused(_: Request, error: HTTPException) -> Response:
    """The answer to a request with a mistake: a list of messages."""
    message = error.detail
    if error.status_code == 404:
        message = "no such address (GET /, GET /health, POST /predict)"
    elif error.status_code == 405:
        message = f"this address does not know the method (Allow: {(error.headers or {}).get('Allow')})"
    return _answer({"errors": message.split("\n")}, error.status_code, error.headers)


def _failed(_: Request, error: Exception) -> Response:
    """The answer where the fault is ours or the model's; the log has the place."""
    message = error.message if isinstance(error, UserError) else "internal error"
    return _answer({"errors": [message]}, 500)


class _Formatter(logging.Formatter):
    """Shows where an exception was raised without its message, which may contain text of a request."""

    def formatException(self, ei: Any) -> str:
        """The places and the type."""
        kind, _, trace = ei
        return "".join(traceback.format_tb(trace)) + (kind.__name__ if kind else "")


def _log_without_text(_: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """Log an error of the event loop without the exception's message."""
    error = context.get("exception")
    LOGGER.error(context["message"], exc_info=(type(error), error, error.__traceback__) if error else None)


class _Protocol(H11Protocol):
    """Cuts a connection that does not bring its headers, or does not take its answer, in time.

    A request's body has a time of its own.
    """

    seconds = 30.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._restart()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._restart()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _restart(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.seconds, self._cut)

    def _cut(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


def make_server(predictor: Predictor, thread: Executor, limits: Limits, pool: Pool | None = None) -> uvicorn.Server:
    """A server, which `run(sockets=[...])` starts; on the main thread, an interrupt ends it after requests in flight.

    Args:
        predictor: the model, which only `thread` uses.
        thread: an executor with a single thread.
        limits: bounds of requests.
        pool: give neighbours in it instead; the predictor makes vectors.
    """

    class Protocol(_Protocol):
        seconds = limits.seconds

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(levelname)s: %(message)s"))
    for logger in (LOGGER, logging.getLogger("uvicorn")):
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING)
    config = uvicorn.Config(Service(predictor, thread, limits, pool).app(), http=Protocol, ws="none", lifespan="on",
                            log_config=None, access_log=False, proxy_headers=False, server_header=False,
                            timeout_graceful_shutdown=round(2 * limits.seconds) or 1)  # fmt: skip
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any free one.

    Raises:
        UserError: the port is taken, or this machine does not have the address.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError(f"cannot listen: {error.strerror or error}", where=f"{host}:{port}",
                        hint="--host and --port choose another address") from error  # fmt: skip


def serve(
    load: Callable[[], tuple[Predictor, Pool | None]], progress: Progress, *, host: str, port: int, limits: Limits
) -> None:
    """Serve a model until an interrupt; then answer the requests in flight.

    Args:
        load: loads the model, and a pool of texts if neighbours are asked; it runs on the thread that will use them.
        progress: prints where it listens, and what a user should know.
        host: address to listen on.
        port: 0 for any free one.
        limits: bounds of requests.

    Raises:
        UserError: the model cannot be loaded, or the address is taken.
    """
    with closing(listen(host, port)) as listening, ThreadPoolExecutor(1, "model") as thread:
        predictor, pool = thread.submit(load).result()
        for note in predictor.notes:
            progress.say(note)
        if not _is_loopback(listening.getsockname()[0]):
            progress.say(f"--host {host}: whoever reaches this machine may use the model; there is no password and "
                         "no encryption")  # fmt: skip
        name = f"[{host}]" if ":" in host else host
        server = make_server(predictor, thread, limits, pool)
        progress.say(f"serves at http://{name}:{listening.getsockname()[1]}; Ctrl-C ends")
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
        progress.say("ended")


def _is_loopback(address: str) -> bool:
    return ip_address(address.partition("%")[0]).is_loopback
