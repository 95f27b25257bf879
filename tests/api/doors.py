"""Every way into an application: each route's methods, and its WebSockets.

Knows no endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

_PARAMETER = re.compile(r"\{[^}]*\}")


@dataclass(frozen=True)
class Door:
    """One way in: a route's method, or a WebSocket."""

    scope_type: str
    path: str
    method: str = ""

    def filled(self, value: str = "novels") -> Door:
        """With `value` in the place of each parameter."""
        return Door(self.scope_type, filled(self.path, value), self.method)


def filled(path: str, value: str) -> str:
    return _PARAMETER.sub(lambda _: value, path)


def doors(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[Door]:
    """All there are, their parameters in braces; what nobody knows to be a route fails."""
    for route in routes:
        if (included := getattr(route, "original_router", None)) is not None:
            yield from doors(included.routes, prefix)
        elif isinstance(route, Mount):
            yield from doors(route.routes, prefix + route.path)
        elif isinstance(route, WebSocketRoute):
            yield Door("websocket", prefix + route.path)
        else:
            assert isinstance(route, Route), f"{route!r} is of no known kind"
            for method in sorted(route.methods or ()):
                yield Door("http", prefix + route.path, method)
