"""A hub on loopback that huggingface_hub's own client talks to, with faults to order.

Knows no appliance.

Large files are kept as by Git LFS: `resolve` answers with a redirect to another origin,
as the real hub does.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote, urlsplit

LFS_SUFFIXES = (".gguf", ".safetensors")
_PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class Request:
    """One request as it came; `range` is its Range header, `token` what it authorized
    itself with.
    """

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the next download of a file: a status, or a connection cut
    or held after some bytes.

    `change` sends other bytes than were announced.
    """

    status: int | None = None
    cut_after: int | None = None
    hold_after: int | None = None
    change: Callable[[bytes], bytes] | None = None
    ignores_range: bool = False


@dataclass
class HubServer:
    """Repositories by name, each a mapping of file names to contents; who lacks `token`
    is refused, if it is set.
    """

    url: str
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    siblings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    token: str | None = None
    gated: set[str] = field(default_factory=set)
    lists: dict[str, Callable[[dict[str, Any]], object]] = field(default_factory=dict)
    absent_revisions: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    range_faults: dict[str, list[Fault]] = field(default_factory=dict)
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def add(self, repo: str, files: Mapping[str, bytes]) -> None:
        self.repositories[repo] = dict(files)
        self.siblings[repo] = [_sibling(name, content) for name, content in files.items()]

    def order(self, name: str, *faults: Fault) -> None:
        """Faults of the downloads of a file to come, one after the other; headers are
        read without.
        """
        self.faults.setdefault(name, []).extend(faults)

    def order_ranges(self, name: str, *faults: Fault) -> None:
        """Faults of the answers to come that are asked for with a range that has an end."""
        self.range_faults.setdefault(name, []).extend(faults)

    def commit(self, repo: str) -> str:
        return hashlib.sha1(json.dumps(self.siblings[repo]).encode()).hexdigest()

    def downloads(self) -> list[tuple[str, str | None]]:
        """The files whose content was asked for as a whole, or from some byte to the
        end, with that Range.
        """
        found = [
            (request, re.search(r"/resolve/[^/]+/(.+)$", request.path)) for request in self.requests
        ]
        return [
            (unquote(match[1]), request.range)
            for request, match in found
            if match is not None and request.method == "GET" and not _is_closed(request.range)
        ]


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """A hub that answers until the context ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    hub = server.hub = HubServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _is_closed(byte_range: str | None) -> bool:
    return byte_range is not None and not byte_range.endswith("-")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: HubServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def log_message(self, *_args: object) -> None:
        """Nothing: the tests look at `requests`."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        token = self.headers.get("Authorization")
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range"), token))
        listed = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path)
        resolved = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)", path)
        stored = re.fullmatch(r"/lfs/([^/]+/[^/]+)/(.+)", path)
        scope_list = re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo/files", path)
        scope_file = re.fullmatch(r"/models/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if listed and listed[2] in self.hub.absent_revisions:
            self._error(404, "RevisionNotFound")
        elif listed:
            self._list(listed[1], token)
        elif resolved:
            self._resolve(resolved[1], unquote(resolved[3]), token)
        elif scope_list:
            self._list_as_modelscope(scope_list[1])
        elif scope_file and self._may(scope_file[1], self.hub.token):
            self._content(scope_file[1], unquote(scope_file[3]))
        elif stored:
            self._content(stored[1], unquote(stored[2]))
        else:
            self._error(404)

    def _list(self, repo: str, token: str | None) -> None:
        if not self._may(repo, token):
            return
        true = {
            "id": repo,
            "sha": self.hub.commit(repo),
            "private": False,
            "siblings": self.hub.siblings[repo],
        }
        listing = self.hub.lists[repo](true) if repo in self.hub.lists else true
        self._send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

    def _list_as_modelscope(self, repo: str) -> None:
        if repo not in self.hub.repositories:
            self._error(404)
            return
        rows = [
            {
                "Path": name,
                "Name": name.rpartition("/")[2],
                "Type": "blob",
                "Size": len(content),
                "Sha256": hashlib.sha256(content).hexdigest(),
            }
            for name, content in self.hub.repositories[repo].items()
        ]
        folder = {"Path": "folder", "Name": "folder", "Type": "tree", "Size": 0, "Sha256": ""}
        answer = {"Code": 200, "Success": True, "Data": {"Files": [folder, *rows]}}
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repo: str, name: str, token: str | None) -> None:
        if not self._may(repo, token):
            return
        content = self.hub.repositories[repo].get(name)
        if content is None:
            self._error(404, "EntryNotFound")
        elif name.endswith(LFS_SUFFIXES):
            row = next(row for row in self.hub.siblings[repo] if row["rfilename"] == name)
            # localhost is another origin than 127.0.0.1, as a content delivery network
            # is
            where = f"http://localhost:{self.server.server_port}/lfs/{repo}/{quote(name)}"
            linked = {
                "X-Linked-Size": str(len(content)),
                "X-Linked-ETag": f'"{row["lfs"]["sha256"]}"',
            }
            self._send(
                302, b"", {"Location": where, "X-Repo-Commit": self.hub.commit(repo), **linked}
            )
        else:
            self._content(repo, name)

    def _content(self, repo: str, name: str) -> None:
        content = self.hub.repositories[repo][name]
        asked = self.headers.get("Range")
        ordered = self.hub.range_faults if _is_closed(asked) else self.hub.faults
        faults = ordered.get(name, [])
        fault = faults.pop(0) if faults and self.command == "GET" else Fault()
        if fault.status is not None:
            self._error(fault.status)
            return
        sent = content if fault.change is None else fault.change(content)
        row = next(row for row in self.hub.siblings[repo] if row["rfilename"] == name)
        headers = {
            "ETag": f'"{row["blobId"]}"',
            "X-Repo-Commit": self.hub.commit(repo),
            "Accept-Ranges": "bytes",
        }
        match = None if fault.ignores_range else re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
        if match is None:
            self._send(200, sent, headers, fault)
            return
        start, stop = int(match[1]), min(int(match[2]) + 1 if match[2] else len(sent), len(sent))
        if start >= len(sent):
            self._error(416)
            return
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(sent)}"
        self._send(206, sent[start:stop], headers, fault)

    def _may(self, repo: str, token: str | None) -> bool:
        if self.hub.token is not None and token != f"Bearer {self.hub.token}":
            self._error(401)
        elif repo not in self.hub.repositories:
            self._error(404, "RepoNotFound")
        elif repo in self.hub.gated:
            self._error(403, "GatedRepo")
        else:
            return True
        return False

    def _error(self, status: int, code: str = "") -> None:
        self._send(status, b"", {"X-Error-Code": code} if code else {})

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str], fault: Fault | None = None
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            self._send_body(body, fault or Fault())
        except OSError:
            self.close_connection = True  # the client has what it wanted, or was killed

    def _send_body(self, body: bytes, fault: Fault) -> None:
        end = next((n for n in (fault.cut_after, fault.hold_after) if n is not None), len(body))
        for at in range(0, min(end, len(body)), _PIECE_BYTES):
            self.wfile.write(body[at : min(at + _PIECE_BYTES, end)])
        self.wfile.flush()
        if fault.hold_after is not None:
            self.hub.held.set()
            self.hub.released.wait()
        if end < len(body):
            self.close_connection = True


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    row: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": _git_sha1(content)}
    if name.endswith(LFS_SUFFIXES):
        row["lfs"] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "pointerSize": 134,
        }
    return row


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
