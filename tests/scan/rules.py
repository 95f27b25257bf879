"""What no response may be, whoever asked for whatever.

Knows no request by name, and how nothing is sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from tests.scan.requests import Request, Who
from tests.scan.wire import Response

# What somebody without a key is told: a request that is none, no key, no such host or origin,
# or a head that is too slow or too large.
REFUSALS = frozenset({400, 401, 403, 408, 431})
_FAULTS = (b"Traceback", b"site-packages", b'File "', b".py", b"Exception", b"/usr/lib", b"0x7f")
_TIMEOUT_HEADER = b"x-request-timeout"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """`open_bodies` are those of the open paths, as nobody gets them. `secrets` are never in a
    response: paths of the machine, keys. `names` are those of keys: only their holder, and
    administrators, see one.
    """

    needs_key: bool
    open_bodies: frozenset[bytes] = frozenset()
    secrets: Collection[bytes] = ()
    names: Mapping[Who, bytes] = field(default_factory=dict)
    checks_names: bool = False  # of hosts

    def broken_by(self, request: Request, response: Response) -> Iterator[str]:
        status = response.status
        if status >= 500 and not self._is_documented(request, status):
            yield f"a status of {status}"
        yield from self._leaks(request, response)
        yield from _unsafe_headers(response, is_open=request.is_at_open_path)
        if self.needs_key and not request.who.is_known:
            yield from self._opened(request, response)
        if self.checks_names and b"evil.example" in _host_of(request) and status < 400:
            yield f"a foreign host was answered with {status}"

    def _is_documented(self, request: Request, status: int) -> bool:
        """503: not now. 504: not in the time that the client gave."""
        asked = any(line.lower().startswith(_TIMEOUT_HEADER) for line in request.headers)
        return status == 503 or (status == 504 and asked)

    def _leaks(self, request: Request, response: Response) -> Iterator[str]:
        shown = b"\n".join(f"{name}: {value}".encode("latin-1") for name, value in response.headers)
        shown += b"\n" + response.body
        for secret in self.secrets:
            if secret in shown:
                yield f"shows {secret!r}"
        for who, name in self.names.items():
            if name in shown and request.who not in (who, Who.ADMIN):
                yield f"names the holder of another key ({name!r})"
        if response.status >= 400:
            for fault in _FAULTS:
                if fault in shown and fault not in request.target + request.body:
                    yield f"shows its inside ({fault!r})"

    def _opened(self, request: Request, response: Response) -> Iterator[str]:
        """What was answered that should not have been."""
        if response.status in REFUSALS:
            return
        is_open = request.is_at_open_path
        if response.status == 200 and response.body in self.open_bodies and is_open:
            return
        if request.method == b"HEAD" and response.status == 200 and is_open:
            return
        if is_open and response.status in (204, 304, 404, 405, 413, 414, 415):
            return
        yield f"answered with {response.status} without a key"


def _host_of(request: Request) -> bytes:
    return b",".join(line for line in request.headers if line.lower().startswith(b"host:"))


def _unsafe_headers(response: Response, *, is_open: bool) -> Iterator[str]:
    headers = dict(response.headers)
    if "server" in headers or "x-powered-by" in headers:
        yield "says what software it is"
    if "x-injected" in headers:
        yield "has a header of the client's making"
    if "set-cookie" in headers:
        yield "sets a cookie"
    if "access-control-allow-origin" in headers:
        yield "lets pages of other origins read it"
    if response.status == 101:
        return
    if headers.get("x-content-type-options") != "nosniff":
        yield "lets browsers guess its type"
    kept = headers.get("cache-control", "")
    if kept != "no-store" and not (is_open and kept == "no-cache"):  # files of the page
        yield "may be kept on the way"
    if "x-request-id" not in headers:
        yield "has no request id"
    if response.body and "content-type" not in headers:
        yield "has no type"
