"""A small hub on this machine: as much of the Hugging Face hub's protocol as a download needs.

It serves the folders OWNER/NAME below a root. A `hub` may cut connections, alter what it sends,
refuse, or want a token; `hub.requests` lists what was asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1_000
"""Bytes from which on a file is named by its SHA-256, as git-lfs does it."""
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Hub(ThreadingHTTPServer):
    """The server; its fields say how it behaves."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.cut_after: int | None = None
        """Bytes of a large file after which the connection breaks, each time."""
        self.spoilt = False
        self.gated: set[str] = set()
        self.token: str | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub = self.server
        hub.requests.append(f"{self.command} {self.path}")
        found = _RESOLVE.fullmatch(self.path.partition("?")[0])
        if found is None:
            return self._refuse(404, "EntryNotFound")
        repository, _, name = found.groups()
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._refuse(401, "RepoNotFound")
        if repository in hub.gated:
            return self._refuse(403, "GatedRepo")
        if not (hub.root / repository).is_dir():
            return self._refuse(401, "RepoNotFound")
        path = hub.root / repository / name
        if not path.is_file():
            return self._refuse(404, "EntryNotFound")
        self._send(path.read_bytes(), body)
        return None

    def _send(self, content: bytes, body: bool) -> None:
        hub = self.server
        large = len(content) >= LARGE
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        tag = hashlib.sha256(content).hexdigest() if large else git
        first = 0
        if body and (wanted := self.headers.get("Range")):
            hub.ranges.append(wanted)
            first = int(wanted.removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{tag}"')
        if large:
            self.send_header("X-Linked-Etag", f'"{tag}"')
            self.send_header("X-Linked-Size", str(len(content)))
        if first:
            end = len(content) - 1
            self.send_header("Content-Range", f"bytes {first}-{end}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        if not body:
            return
        sent = bytes(len(content)) if hub.spoilt and large else content
        last = len(content)
        if large and hub.cut_after is not None:
            last = min(first + hub.cut_after, last)
        self.wfile.write(sent[first:last])
        if last < len(content):
            self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test says what it needs."""


@contextlib.contextmanager
def serving(root: Path) -> Iterator[Hub]:
    """A hub that is gone afterwards."""
    hub = Hub(root)
    thread = threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
