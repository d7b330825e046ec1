"""A server on loopback that speaks as much of the Hugging Face Hub's API as its client uses, and
serves OpenAI's addresses; with faults on demand.
"""

import contextlib
import dataclasses
import hashlib
import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator

# as the hub: small text files are in git, the others in LFS
_LFS = (".safetensors", ".bin", ".pt", ".model", ".parquet", ".mp4")
_HALF = 2


@dataclasses.dataclass
class Fault:
    """What goes wrong with requests whose path contains a text.

    Attributes:
      path: the text.
      kind: "status", "abort", "wrong", "slow", "no_range", "endless", "redirect", "garbage",
        "headers" (other ones), "drip" (a byte each `pause` without end), "drip headers", or
        "answer" (a listing that `change` changed).
      times: how often; then all is well.
      status: of "status".
      code: its `X-Error-Code`.
      to: of "redirect".
      after: bytes before an "abort"; None for half of them.
      pause: seconds of "slow", before each block.
      headers: of "status" and "headers", in the place of the right ones.
      change: of "answer": what a listing is made of it.
      reason: of "status": the phrase beside the number.
    """

    path: str
    kind: str
    times: int = 10**9
    status: int = 500
    code: str = ""
    to: str = ""
    after: int | None = None
    pause: float = 0.2
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    change: Callable[[dict], object] = dict
    reason: str | None = None


@dataclasses.dataclass
class Hub:
    """What the server has, and what it was asked.

    Attributes:
      url: its address.
      commits: (repository, commit) -> file -> bytes; a data set's repository begins "datasets/".
      cards: repository -> what its card says.
      revisions: (repository, branch or tag) -> commit.
      files: path -> bytes of other files, such as OpenAI's.
      faults: in order; the first that fits counts.
      requests: (method, path, value of Range).
      token: that requests must have, or a whole `Basic …`; "" for none.
      authorizations: the header of each request.
    """

    url: str = ""
    commits: dict = dataclasses.field(default_factory=dict)
    revisions: dict = dataclasses.field(default_factory=dict)
    cards: dict = dataclasses.field(default_factory=dict)
    files: dict = dataclasses.field(default_factory=dict)
    faults: list[Fault] = dataclasses.field(default_factory=list)
    requests: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    token: str = ""
    authorizations: list[str] = dataclasses.field(default_factory=list)

    def add(self, repository: str, files: dict[str, bytes], revision: str = "main") -> str:
        """Adds a commit and lets the revision be it; returns its 40 digits."""
        content = repr(sorted((name, hashlib.sha1(data).digest()) for name, data in files.items()))
        commit = hashlib.sha1(f"{repository} {content}".encode()).hexdigest()
        self.commits[repository, commit] = dict(files)
        self.revisions[repository, revision] = commit
        return commit

    def gets(self, text: str) -> int:
        """How many bodies were asked for whose path contains a text."""
        return sum(method == "GET" and text in path for method, path, _ in self.requests)

    def fault(self, path: str) -> Fault | None:
        """The fault of a request, counted."""
        for one in self.faults:
            if one.path in path and one.times > 0:
                one.times -= 1
                return one
        return None


@contextlib.contextmanager
def serving(hub: Hub | None = None, port: int = 0) -> Iterator[Hub]:
    """Serves until the block ends; `url` of the hub is set."""
    hub = hub or Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sha256(data: bytes) -> str:
    """Hex digits."""
    return hashlib.sha256(data).hexdigest()


def _parts(parts: list[str]) -> int:
    """How many parts of a path are the repository."""
    return 3 if parts[0] == "datasets" else 2


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    fault: Fault | None = None
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Says nothing: tests read `requests`."""

    def do_HEAD(self):
        """Headers only."""
        self._answer()

    def do_GET(self):
        """Headers and body."""
        self._answer()

    def _answer(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        self.hub.authorizations.append(self.headers.get("Authorization", ""))
        self.fault = fault = self.hub.fault(f"{self.command} {path}")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if fault and fault.kind.startswith("drip"):
                return self._drip(fault)
            if fault and fault.kind in ("status", "redirect", "garbage"):
                return self._fail(fault)
            if path.startswith(("/api/models/", "/api/datasets/")):
                return self._listing(path.removeprefix("/api/").removeprefix("models/"))
            if path.startswith("/lfs/"):
                return self._lfs(path.removeprefix("/lfs/"), fault)
            if path in self.hub.files:
                if not self._allowed():
                    return self._send(401, b"", {})
                return self._body(self.hub.files[path], {}, fault)
            return self._file(path, fault)

    def _fail(self, fault: Fault):
        headers = ({"X-Error-Code": fault.code} if fault.code else {}) | fault.headers
        if fault.kind == "redirect":
            return self._send(302, b"", {"Location": fault.to})
        if fault.kind == "garbage":
            return self._send(200, b"<html>not an API</html>", {"Content-Type": "text/html"})
        return self._send(fault.status, b"", headers, fault.reason)

    def _drip(self, fault: Fault):
        """Bytes, one by one, without end: of a body, or of a header."""
        start = (
            b"HTTP/1.1 200 OK\r\nX-A: "
            if fault.kind == "drip headers"
            else (b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n")
        )
        self.close_connection = True
        self.wfile.write(start)
        while True:
            self.wfile.write(b" ")
            time.sleep(fault.pause)

    def _allowed(self) -> bool:
        given, token = self.headers.get("Authorization"), self.hub.token
        return not token or given in (token, f"Bearer {token}")

    def _commit(self, repository: str, revision: str) -> str | None:
        """The commit, or None after an answer that there is none."""
        known = {name for name, _ in self.hub.commits}
        if repository not in known or not self._allowed():
            status = 401 if not self._allowed() else 404
            return self._send(status, b"", {"X-Error-Code": "RepoNotFound"})
        commit = self.hub.revisions.get((repository, revision), revision)
        if (repository, commit) not in self.hub.commits:
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        return commit

    def _listing(self, rest: str):
        parts = rest.split("/")
        cut = _parts(parts)
        repository = "/".join(parts[:cut])
        revision = "/".join(parts[cut + 1 :]) or "main"
        if (commit := self._commit(repository, revision)) is None:
            return
        siblings = []
        for name, data in self.hub.commits[repository, commit].items():
            one = {"rfilename": name, "size": len(data), "blobId": _blob(data)}
            if name.endswith(_LFS):
                one["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
            siblings.append(one)
        answer = {"id": repository, "sha": commit, "siblings": siblings}
        if repository in self.hub.cards:
            answer["cardData"] = self.hub.cards[repository]
        if self.fault and self.fault.kind == "answer":
            answer = self.fault.change(answer)
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self._send(200, body, {"Content-Type": "application/json"})

    def _file(self, path: str, fault: Fault | None):
        parts = path.strip("/").split("/")
        cut = _parts(parts)
        if len(parts) < cut + 3 or parts[cut] != "resolve":
            return self._send(404, b"", {})
        repository, name = "/".join(parts[:cut]), "/".join(parts[cut + 2 :])
        if (commit := self._commit(repository, parts[cut + 1])) is None:
            return None
        data = self.hub.commits[repository, commit].get(name)
        if data is None:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_blob(data)}"'}
        if name.endswith(_LFS):
            headers |= {
                "X-Linked-Etag": f'"{sha256(data)}"',
                "X-Linked-Size": str(len(data)),
                # another origin, as the hub's storage is
                "Location": f"{self.hub.url.replace('127.0.0.1', 'localhost')}/lfs/{sha256(data)}",
            }
            return self._send(302, b"", headers)
        self._body(data, headers, fault)
        return None

    def _lfs(self, digest: str, fault: Fault | None):
        for files in self.hub.commits.values():
            for data in files.values():
                if sha256(data) == digest:
                    return self._body(data, {}, fault)
        self._send(404, b"", {})
        return None

    def _body(self, data: bytes, headers: dict[str, str], fault: Fault | None):
        kind = fault.kind if fault else ""
        if kind == "wrong":
            data = bytes([data[0] ^ 1]) + data[1:]
        if kind == "endless":
            return self._endless(data)
        start, status = 0, 200
        asked = self.headers.get("Range", "")
        if asked and kind != "no_range":
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            if start >= len(data):
                return self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        self.send_response(status)
        for name, value in self._changed({**headers, "Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if kind == "abort":
            most = len(body) // _HALF if fault.after is None else fault.after
            self.wfile.write(body[:most])
            self.wfile.flush()
            self.close_connection = True
            return None
        step = max(len(body) // 20, 1) if kind == "slow" else len(body) or 1
        for at in range(0, len(body), step):
            if kind == "slow":
                time.sleep(fault.pause)
            self.wfile.write(body[at : at + step])
        return None

    def _endless(self, data: bytes):
        """Says no length, and goes on after the file's end."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command == "HEAD":
            return
        while True:
            block = data[: 2**16] or b"x"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))

    def _changed(self, headers: dict[str, str]) -> dict[str, str]:
        return headers | (self.fault.headers if self.fault else {})

    def _send(self, status: int, body: bytes, headers: dict[str, str], reason: str | None = None):
        self.send_response(status, reason)
        for name, value in self._changed({**headers, "Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
