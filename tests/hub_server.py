"""A model hub on this machine: a real HTTP server that speaks what huggingface_hub speaks, with faults on request.

    GET, HEAD /{id}/resolve/{revision}/{name}     a file: its commit, hash and size; large ones lead to the other host
    GET, HEAD /cdn/{sha256}                       the bytes of a large file, with ranges; no credentials may come here
    GET  /api/models/{id}[/revision/{revision}]   what there is of a repository
    GET  /api/models/{id}/tree/{revision}         its files
    POST /api/repos/create, /api/validate-yaml, /api/models/{id}/preupload/{revision}
    POST /{id}.git/info/lfs/objects/batch         where large files go; PUT /lfs/{sha256}
    POST /api/models/{id}/commit/{revision}       a commit, whole

`*.safetensors` are large files, as on the hub. Everything is in memory, and every request is noted.

    python -m tests.hub_server PACK [--bytes-a-second N]     serves a directory as local/pack until Ctrl-C
"""

import argparse
import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_a_reader"
"""Opens what is private and gated, and may write."""


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose `METHOD /path` matches."""

    match: str
    status: int | None = None
    """Answer with this, and `headers`; else with the file, and:"""
    headers: Mapping[str, str] = field(default_factory=dict)
    after_bytes: int = 0
    """Send as many bytes of the file, and then"""
    then: str = "go on"
    """`reset` the connection, `close` it, `stall`, or give `wrong` bytes."""
    times: int = 1_000_000


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Repository:
    """Commits of one repository, oldest first."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: Mapping[str, bytes]) -> str:
        digest = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits[digest] = dict(files)
        return digest

    def resolve(self, revision: str) -> str | None:
        if revision == "main":
            return next(reversed(self.commits), None)
        return revision if revision in self.commits else None


class LocalHub:
    """The server, its repositories, its faults and what it was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.bytes_a_second: float | None = None
        self.stalled = threading.Event()
        """Set when a request has stalled."""
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def cdn(self) -> str:
        """Another host by its name, as far as a client can tell."""
        return f"http://localhost:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add(self, id: str, directory: Path, *, private: bool = False, gated: bool = False) -> str:
        """Commit the files of a directory to a repository, made if needed; returns the commit."""
        repository = self.repositories.setdefault(id, Repository())
        repository.private, repository.gated = private, gated
        paths = [path for path in sorted(directory.rglob("*")) if path.is_file()]
        return repository.commit(
            {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}
        )

    def fail(self, match: str, **how: Any) -> Fault:
        fault = Fault(match, **how)
        self.faults.append(fault)
        return fault

    def count(self, pattern: str) -> int:
        """How many requests came whose `METHOD /path` matches."""
        return sum(bool(re.search(pattern, f"{asked.method} {asked.path}")) for asked in self.asked)

    def fault_of(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.match, f"{method} {path}"):
                    fault.times -= 1
                    return fault
        return None

    def wait(self) -> None:
        """Wait until the server stops, or a while."""
        self.stalled.set()
        self._stopped.wait(30)


class _Server(ThreadingHTTPServer):
    hub: LocalHub
    daemon_threads = False
    block_on_close = True

    def shutdown_request(self, request: Any) -> None:
        # A socket that is to be reset must not say goodbye first.
        if struct.unpack("ii", request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0]:
            request.close()
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone, or was killed, is no error of the server's."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_GET

    def _handle(self) -> None:
        self.hub, self.fault = self.server.hub, None
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path = unquote(url.path)
        bearer = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.hub.asked.append(Asked(self.command, path, self.headers.get("Range"), bearer or None))
        self.fault = self.hub.fault_of(self.command, path)
        if self.fault is not None and self.fault.status is not None:
            self._answer(self.fault.status, b"{}", self.fault.headers)
        elif match := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
            self._send(self.hub.stored[match[1]])
        elif match := re.fullmatch(r"/lfs/([0-9a-f]{64})", path):
            good = hashlib.sha256(self.body).hexdigest() == match[1]
            self.hub.stored |= {match[1]: self.body} if good else {}
            self._answer(200 if good else 400)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if (found := self._find(match[1], match[2])) is not None:
                self._file(*found, match[3])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self._batch()
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create()
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/([^/]+)", path):
            self._preupload(match[1]) if match[2] == "preupload" else self._commit(match[1])
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/(tree|revision)/([^/]+))?", path):
            if (found := self._find(match[1], match[3] or "main", listing=True)) is not None:
                self._list(match[1], *found, tree=match[2] == "tree")
        else:
            self._refuse(404, "NoSuchPage")

    # What there is.

    def _find(self, id: str, revision: str, *, listing: bool = False) -> tuple[str, dict[str, bytes]] | None:
        """The commit and its files, or None where the refusal was sent: what may not be seen is not there."""
        repository = self.hub.repositories.get(id)
        reader = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not reader):
            self._refuse(404 if reader else 401, "RepoNotFound")
        elif repository.gated and not reader and not listing:
            self._refuse(401, "GatedRepo")
        elif (commit := repository.resolve(revision)) is None:
            if repository.commits or revision != "main":
                self._refuse(404, "RevisionNotFound")
            else:
                return "0" * 40, {}
        else:
            return commit, repository.commits[commit]
        return None

    def _file(self, commit: str, files: Mapping[str, bytes], name: str) -> None:
        headers = {"X-Repo-Commit": commit}
        if name not in files:
            self._refuse(404, "EntryNotFound", headers)
        elif _is_large(name):
            sha256 = hashlib.sha256(files[name]).hexdigest()
            self.hub.stored[sha256] = files[name]
            headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(files[name]))}
            self._answer(302, b"", headers | {"Location": f"{self.hub.cdn}/cdn/{sha256}"})
        else:
            self._send(files[name], headers | {"ETag": f'"{_git_hash(files[name])}"'})

    def _list(self, id: str, commit: str, files: Mapping[str, bytes], *, tree: bool) -> None:
        if not tree:
            siblings = [{"rfilename": name} for name in sorted(files)]
            self._json({"id": id, "modelId": id, "sha": commit, "siblings": siblings, "tags": []})
            return
        entries = []
        for name, data in sorted(files.items()):
            entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": _git_hash(data)}
            if _is_large(name):
                entry["lfs"] = {
                    "oid": hashlib.sha256(data).hexdigest(),
                    "size": len(data),
                    "pointerSize": 130,
                }
            entries.append(entry)
        self._json(entries)

    # What is pushed.

    def _may_write(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._refuse(401, "Unauthorized")
        return False

    def _create(self) -> None:
        asked = json.loads(self.body)
        id = f"{asked['organization']}/{asked['name']}"
        if self._may_write():
            is_new = id not in self.hub.repositories
            self.hub.repositories.setdefault(id, Repository(private=asked.get("visibility") == "private"))
            self._json({"url": f"{self.hub.endpoint}/{id}", "id": id}, 200 if is_new else 409)

    def _preupload(self, id: str) -> None:
        if self._may_write():
            repository = self.hub.repositories[id]
            there = repository.commits.get(repository.resolve("main") or "", {})
            names = [file["path"] for file in json.loads(self.body)["files"]]
            modes = {name: "lfs" if _is_large(name) else "regular" for name in names}
            files: list[dict[str, Any]] = [
                {"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()
            ]
            for file in files:
                if (data := there.get(file["path"])) is not None:
                    file["oid"] = (
                        hashlib.sha256(data).hexdigest() if file["uploadMode"] == "lfs" else _git_hash(data)
                    )
            self._json({"files": files})

    def _batch(self) -> None:
        if self._may_write():
            objects = []
            for item in json.loads(self.body)["objects"]:
                actions = {"upload": {"href": f"{self.hub.cdn}/lfs/{item['oid']}"}}
                objects.append(item | ({} if item["oid"] in self.hub.stored else {"actions": actions}))
            self._json({"transfer": "basic", "objects": objects})

    def _commit(self, id: str) -> None:
        if not self._may_write():
            return
        repository = self.hub.repositories[id]
        latest = repository.resolve("main")
        files = dict(repository.commits[latest]) if latest is not None else {}
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(files)
        url = f"{self.hub.endpoint}/{id}/commit/{commit}"
        self._json({"success": True, "commitUrl": url, "commitOid": commit})

    # How it is sent.

    def _refuse(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        self._answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _json(self, value: object, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send(self, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        """The bytes of a file, from where the range says, with whatever is to go wrong."""
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        part = data[start:]
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command == "HEAD":
            return
        fault = self.fault
        if fault is None:
            self._write(part)
            return
        self._write(part[: fault.after_bytes])
        if fault.then == "wrong":
            self._write(bytes(byte ^ 0xFF for byte in part[fault.after_bytes :]))
        elif fault.then == "go on":
            self._write(part[fault.after_bytes :])
        else:
            if fault.then == "stall":
                self.hub.wait()
            if fault.then == "reset":
                time.sleep(0.02)  # so that what was sent is received
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

    def _write(self, data: bytes) -> None:
        speed = self.hub.bytes_a_second
        step = len(data) if speed is None else max(1, int(speed / 100))
        for start in range(0, len(data), step or 1):
            self.wfile.write(data[start : start + step])
            self.wfile.flush()
            if speed is not None:
                time.sleep(step / speed)


def _is_large(name: str) -> bool:
    return name.endswith(".safetensors")


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """A hub that runs until the block ends."""
    hub = LocalHub()
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pack", type=Path)
    parser.add_argument("--bytes-a-second", type=float)
    arguments = parser.parse_args()
    with local_hub() as hub:
        hub.bytes_a_second = arguments.bytes_a_second
        commit = hub.add("local/pack", arguments.pack)
        print(f"HF_ENDPOINT={hub.endpoint} phoropter pack fetch local/pack@{commit}", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
