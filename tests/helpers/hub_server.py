"""A local server that speaks the few calls of the Hugging Face hub which a download makes, for the real client.

Repositories are folders on disk: `files/<model or dataset>/<owner>/<name>/…`. Every repository has one commit, which
its branch `main` points to.
"""

import hashlib
import json
import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c0ffee" * 6 + "c0de"
_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)/(revision|tree)/([^/?]+)")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)")


class Hub(ThreadingHTTPServer):
    """The server, its request log, and what of it is out of order."""

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.log: list[tuple[str, str, str | None]] = []  # method, path, Range
        self.private: set[str] = set()  # repositories that answer 401
        self.broken: int | None = None  # the HTTP status that everything answers with
        self.cut_after: int | None = None  # bytes of a file after which the connection drops, and the hub is `broken`

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def folder(self, kind: str, repository: str) -> Path:
        """Where the files of a repository (`model` or `dataset`) lie."""
        return self.root / kind / repository

    def downloads(self) -> list[str]:
        """The files that were asked for, in order."""
        return [path for method, path, _ in self.log if method == "GET" and "/resolve/" in path]

    def ranges(self, name: str) -> list[str]:
        """The Range headers with which a file was asked for."""
        return [span for method, path, span in self.log if method == "GET" and path.endswith(name) and span]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def log_message(self, *_):
        pass

    def _answer(self, body: bool) -> None:
        self.server.log.append((self.command, self.path.split("?")[0], self.headers.get("Range")))
        if self.server.broken:
            return self._error(self.server.broken, "")
        api, file = _API.match(self.path), _FILE.match(self.path)
        if api:
            kind, repository, call, revision = api[1].rstrip("s"), api[2], api[3], api[4]
        elif file:
            kind, repository, revision = "dataset" if file[1] else "model", file[2], file[3]
        else:
            return self._error(404, "EntryNotFound")
        folder = self.server.folder(kind, repository)
        if repository in self.server.private or not folder.is_dir():
            return self._error(401 if repository in self.server.private else 404, "RepoNotFound")
        if revision not in ("main", COMMIT):
            return self._error(404, "RevisionNotFound")
        if file:
            path = folder / file[4]
            return self._file(path, body) if path.is_file() else self._error(404, "EntryNotFound")
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        if call == "revision":
            siblings = [{"rfilename": name} for name in names]
            return self._json({"id": repository, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []})
        return self._json(
            [
                {"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": _etag(folder / name)}
                for name in names
            ]
        )

    def _file(self, path: Path, body: bool) -> None:
        content = path.read_bytes()
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start = int(span[1]) if span else 0
        stop = min(int(span[2]) + 1 if span and span[2] else len(content), len(content))
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", f'"{_etag(path)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if span:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        if self.server.cut_after is not None and stop - start > self.server.cut_after:
            self.wfile.write(content[start : start + self.server.cut_after])
            self.close_connection, self.server.broken = True, 503
        else:
            self.wfile.write(content[start:stop])

    def _json(self, content) -> None:
        encoded = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def environment(hub: Hub, home: Path, **changes: str) -> dict[str, str]:
    """The environment of a process that takes `hub` for the Hugging Face hub, with its cache in `home`."""
    values = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**os.environ, **values, **changes}
