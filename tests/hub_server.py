"""A stand-in of the Hugging Face Hub: a small HTTP server that stores models as huggingface_hub's client sends them."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import yaml

TOKEN = "hf_standin"
OWNER = "anna"
DATE = "2026-11-30T12:00:00.000Z"


@dataclass
class Repo:
    """A model: the files of its last commit, and how many commits there were."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0

    @property
    def sha(self) -> str:
        return hashlib.sha1(repr((self.commits, sorted(self.files))).encode()).hexdigest()

    @property
    def tags(self) -> list[str]:
        """Those that its card names."""
        metadata = re.match(rb"---\n(.*?)\n---\n", self.files.get("README.md", b""), re.DOTALL)
        return list((yaml.safe_load(metadata[1]) or {}).get("tags", [])) if metadata else []


@dataclass
class Hub:
    """What the server holds.

    Attributes:
        url: its address.
        repos: by OWNER/NAME.
        blobs: large files, by their sha256.
        uploads: the sha256 of each large file that was sent, as often as it was.
        faults: statuses (0: the connection is cut) for the next requests whose path has a text.
    """

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    uploads: list[str] = field(default_factory=list)
    faults: list[tuple[str, int]] = field(default_factory=list)


@contextmanager
def running() -> Iterator[Hub]:
    """A server on a free port of this machine."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ClassVar[Hub]

    def log_message(self, *_: Any) -> None:
        """Write nothing."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        body = self._body()
        path = self.path.partition("?")[0]
        for fault in self.state.faults:
            if fault[0] in path:
                self.state.faults.remove(fault)
                if fault[1]:
                    return self._send(fault[1], {"error": "as the test asks"})
                self.close_connection = True
                return self.connection.close()
        if path.startswith("/blob/"):
            self.state.blobs[path.rpartition("/")[2]] = body
            self.state.uploads.append(path.rpartition("/")[2])
            return self._send(200, {})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and path != "/api/validate-yaml":
            return self._send(401, {"error": "Invalid credentials"})
        for pattern, method in ROUTES:
            if found := re.fullmatch(pattern, path):
                return method(self, body, *found.groups())
        self._send(404, {"error": path})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def create(self, body: bytes) -> None:
        wanted = json.loads(body)
        owner = wanted.get("organization") or OWNER
        if owner != OWNER:
            return self._send(
                403, {"error": f"You don't have the rights to create a model under the namespace {owner}"}
            )
        name = f"{owner}/{wanted['name']}"
        url = {"url": f"{self.state.url}/{name}", "name": name}
        if name in self.state.repos:
            return self._send(409, {"error": "You already created this model repo", **url})
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.state.repos[name] = Repo(private, {".gitattributes": b"*.safetensors filter=lfs\n"})
        self._send(200, url)

    def validate(self, body: bytes) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def info(self, body: bytes, name: str, *_: str) -> None:
        if not (repo := self.state.repos.get(name)):
            return self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        siblings = [{"rfilename": file} for file in repo.files]
        self._send(200, {"_id": "1", "id": name, "modelId": name, "sha": repo.sha, "private": repo.private,
                         "lastModified": DATE, "createdAt": DATE, "tags": repo.tags, "siblings": siblings})  # fmt: skip

    def tree(self, body: bytes, name: str, *_: str) -> None:
        files = self.state.repos[name].files.items()
        self._send(
            200, [{"type": "file", "path": file, "size": len(data), "oid": git_hash(data)} for file, data in files]
        )

    def preupload(self, body: bytes, name: str) -> None:
        known = {file: git_hash(data) for file, data in self.state.repos[name].files.items()}
        known |= {file: hashlib.sha256(data).hexdigest() for file, data in self.state.repos[name].files.items()
                  if file.endswith(".safetensors")}  # fmt: skip
        files = [
            {"path": one["path"], "shouldIgnore": False, "oid": known.get(one["path"]),
             "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular"}
            for one in json.loads(body)["files"]
        ]  # fmt: skip
        self._send(200, {"files": files})

    def batch(self, body: bytes, name: str) -> None:
        objects = [
            one if one["oid"] in self.state.blobs
            else {**one, "actions": {"upload": {"href": f"{self.state.url}/blob/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]  # fmt: skip
        self._send(200, {"transfer": "basic", "objects": objects})

    def commit(self, body: bytes, name: str) -> None:
        repo = self.state.repos[name]
        rows = [json.loads(line) for line in body.splitlines()]
        parent = rows[0]["value"].get("parentCommit")
        if parent and parent != repo.sha:
            return self._send(412, {"error": "A commit has happened since."})
        for row in rows[1:]:
            value = row["value"]
            is_large = row["key"] == "lfsFile"
            repo.files[value["path"]] = (
                self.state.blobs[value["oid"]] if is_large else base64.b64decode(value["content"])
            )
        repo.commits += 1
        self._send(
            200, {"success": True, "commitOid": repo.sha, "commitUrl": f"{self.state.url}/{name}/commit/{repo.sha}"}
        )

    def resolve(self, body: bytes, name: str, file: str) -> None:
        repo = self.state.repos[name]
        data = repo.files[file]
        self._send(200, data, {"ETag": f'"{git_hash(data)}"', "X-Repo-Commit": repo.sha})


def git_hash(data: bytes) -> str:
    """The name that git has for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


MODEL = r"/api/models/([^/]+/[^/]+)"
ROUTES = (
    ("/api/repos/create", _Handler.create),
    ("/api/validate-yaml", _Handler.validate),
    (MODEL, _Handler.info),
    (MODEL + "/revision/(.+)", _Handler.info),
    (MODEL + "/tree/(.+)", _Handler.tree),
    (MODEL + "/preupload/main", _Handler.preupload),
    (MODEL + "/commit/main", _Handler.commit),
    (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler.batch),
    (r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", _Handler.resolve),
)
