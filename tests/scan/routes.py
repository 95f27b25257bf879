"""Every route of the application, asked for in every way.

Knows what the application has, and nothing of what it answers.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator

from appliance.api.app import create_app
from appliance.api.transport.guards import OPEN_PATHS
from tests.api.doors import doors, filled
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.scan.odd import BODIES, HEADERS, METHODS, PARAMETERS, TARGETS
from tests.scan.requests import Request, Who

_BODY_METHODS = (b"POST", b"PUT", b"PATCH", b"DELETE")
_PLAIN: tuple[str, tuple[bytes, ...]] = ("", ())


def all_doors() -> list[tuple[str, str]]:
    """Paths, their parameters in braces, and the methods that are declared there."""
    routes = create_app(gateway_around(ScriptedClient())).routes
    return sorted({(door.path, door.method) for door in doors(routes)})


def all_paths() -> list[str]:
    return sorted({path for path, _ in all_doors()})


def routes_by_headers(who: Iterable[Who]) -> list[Request]:
    """Each path by each method with each oddity, by each of `who`."""
    return [
        Request(
            method=method,
            target=filled(path, "novels").encode(),
            headers=lines,
            body=b"{}" if method in _BODY_METHODS else b"",
            who=each,
            what=what,
            is_at_open_path=path in OPEN_PATHS,
        )
        for path, method, (what, lines), each in itertools.product(
            all_paths(), METHODS, (_PLAIN, *HEADERS.items()), who
        )
        if not (each.is_known and any(line.startswith(b"Authorization") for line in lines))
    ]


def parameters(who: Iterable[Who]) -> Iterator[Request]:
    """What may stand in the place of a path's parameter."""
    declared = [(path, method) for path, method in all_doors() if "{" in path and method]
    for (path, method), (what, value), each in itertools.product(declared, PARAMETERS.items(), who):
        head, _, rest = path.partition("{")
        tail = filled("{" + rest, "novels").removeprefix("novels")
        yield Request(
            method=method.encode(),
            target=head.encode() + value + tail.encode(),
            body=b"{}" if method.encode() in _BODY_METHODS else b"",
            who=each,
            what=f"{what} in the path",
        )


def bodies(who: Iterable[Who]) -> Iterator[Request]:
    declared = [(path, method) for path, method in all_doors() if method in ("POST", "PUT")]
    for (path, method), (what, (lines, body)), each in itertools.product(
        declared, BODIES.items(), who
    ):
        yield Request(
            method=method.encode(),
            target=filled(path, "novels").encode(),
            headers=lines,
            body=body,
            who=each,
            what=what,
        )


def targets(who: Iterable[Who]) -> Iterator[Request]:
    for (what, (target, may_be_open)), method, each in itertools.product(
        TARGETS.items(), (b"GET", b"OPTIONS", b"POST"), who
    ):
        yield Request(
            method=method, target=target, who=each, what=what, is_at_open_path=may_be_open
        )


def some(requests: list[Request], count: int | None, seed: int) -> list[Request]:
    """So many of them, the same at every run; all where that is None."""
    if count is None or count >= len(requests):
        return requests
    return random.Random(seed).sample(requests, count)
