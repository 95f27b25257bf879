"""A minute of the scan; `python -m tests.scan --self` is the whole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.scan.requests import Request, Who
from tests.scan.routes import routes_by_headers, some
from tests.scan.rules import Rules
from tests.scan.scan import Extent, scan_own
from tests.scan.wire import Response

SHORT = Extent(routes=2500, parameters=600, bodies=500)
SAFE = (("x-content-type-options", "nosniff"), ("cache-control", "no-store"), ("x-request-id", "a"))
RULES = Rules(
    needs_key=True,
    open_bodies=frozenset({b"fine"}),
    secrets=(b"/home/somebody",),
    names={Who.HOLDER: b"alice"},
)


def request(who: Who = Who.NOBODY, *, is_open: bool = False) -> Request:
    return Request(method=b"GET", target=b"/v1/models", who=who, is_at_open_path=is_open)


def response(status: int, body: bytes = b"", **headers: str) -> Response:
    said = (*SAFE, *((name.replace("_", "-"), value) for name, value in headers.items()))
    return Response(status=status, headers=(*said, ("content-type", "text/plain")), body=body)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (request(), response(401)),
        (request(is_open=True), response(200, b"fine")),
        (request(Who.HOLDER), response(200, b"alice")),
        (request(Who.ADMIN), response(200, b"alice")),
        (request(Who.HOLDER), response(503)),
    ],
)
def test_what_is_shut_is_no_finding(asked: Request, answered: Response) -> None:
    assert [*RULES.broken_by(asked, answered)] == []


@pytest.mark.parametrize(
    ("asked", "answered", "why"),
    [
        (request(), response(200, b"fine"), "answered with 200 without a key"),
        (request(Who.GUESSER), response(404), "answered with 404 without a key"),
        (request(is_open=True), response(200, b"more"), "answered with 200 without a key"),
        (request(Who.HOLDER), response(500), "a status of 500"),
        (request(Who.HOLDER), response(200, b"in /home/somebody/x"), "shows b'/home/somebody'"),
        (request(Who.OTHER), response(200, b"alice"), "names the holder of another key (b'alice')"),
        (request(Who.HOLDER), response(400, b"Traceback"), "shows its inside (b'Traceback')"),
        (request(Who.HOLDER), response(200, server="x"), "says what software it is"),
        (request(Who.HOLDER), response(200, x_injected="1"), "has a header of the client's making"),
        (
            request(Who.HOLDER),
            response(200, access_control_allow_origin="*"),
            "lets pages of other origins read it",
        ),
    ],
)
def test_what_is_open_is_found(asked: Request, answered: Response, why: str) -> None:
    assert [*RULES.broken_by(asked, answered)] == [why]


def test_a_response_without_its_headers_is_found() -> None:
    bare = Response(status=200, headers=(), body=b"fine")
    assert len([*RULES.broken_by(request(Who.HOLDER), bare)]) == 4


def test_some_are_the_same_at_every_run() -> None:
    every = routes_by_headers((Who.NOBODY,))
    assert some(every, 50, 7) == some(every, 50, 7) != some(every, 50, 8)
    assert some(every, None, 7) is every


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted")
async def test_nothing_is_open(tmp_path: Path) -> None:
    report = await scan_own(tmp_path / "home", tmp_path, SHORT)
    assert report.findings.broken == [], "python -m tests.scan --self is the whole"
    assert report.findings.num_requests > 7000
    assert report.findings.statuses[200] > 50
    assert report.findings.statuses[401] > 500
