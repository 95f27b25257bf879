"""Paths as clients send them, and the routes that they mean.

Knows no endpoint.

A base URL is typed by hand: with a slash too many, without `/v1` or with two. What is
asked for is plain all the same. It is understood before anything else looks at the
path, so that the guards and the router see one and the same.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from starlette.routing import BaseRoute, Route, WebSocketRoute, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

_VERSION = "/v1"
_VERSIONS = re.compile(r"(?:/v1)+(?=/|$)")
_MAX_COMPARED_CHARS = 200
_WEBSOCKET = "WEBSOCKET"  # in the place of a method
_NOT_NAMED = {"HEAD", "OPTIONS", _WEBSOCKET}


class KnownRoutes:
    """The paths that somebody serves, and their methods."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        """Whatever is neither a `Route` nor a `WebSocketRoute` is left out: such paths
        are taken as they come.
        """
        self._literal: dict[str, set[str]] = {}
        self._patterns: list[tuple[re.Pattern[str], set[str]]] = []
        for route in routes:
            if isinstance(route, Route):
                self._add(route.path, route.methods or set())
            elif isinstance(route, WebSocketRoute):
                self._add(route.path, {_WEBSOCKET})

    def _add(self, path: str, methods: Iterable[str]) -> None:
        if "{" in path:
            self._patterns.append((compile_path(path)[0], set(methods)))
        else:
            self._literal.setdefault(path, set()).update(methods)

    def methods_at(self, path: str) -> set[str]:
        """HTTP's, without `HEAD` and `OPTIONS`, which are everywhere; empty at an
        unknown path. `*` is the server as a whole (RFC 9110, 9.3.7).
        """
        if path == "*":
            every = (*self._literal.values(), *(methods for _, methods in self._patterns))
            return set().union(*every) - _NOT_NAMED
        return self._declared_at(path) - _NOT_NAMED

    def takes_websocket(self, path: str) -> bool:
        return _WEBSOCKET in self._declared_at(path)

    def answers_head_by_get(self, path: str) -> bool:
        """Unless a route declares `HEAD`, because its `GET` is more than a look."""
        declared = self._declared_at(path)
        return "GET" in declared and "HEAD" not in declared

    def _declared_at(self, path: str) -> set[str]:
        found = set(self._literal.get(path, ()))
        if not found and path == _clean(path):  # no parameter is empty, or ends in a slash
            for pattern, methods in self._patterns:
                if pattern.match(path):
                    found |= methods
        return found

    def meant_by(self, path: str) -> str:
        """The path of the route that is meant; `path` itself if there is none.

        An exact path is never another one.
        """
        if path in self._literal:
            return path
        return next((each for each in _readings(_clean(path)) if self._declared_at(each)), path)

    def near(self, path: str) -> str | None:
        """A path that may have been meant, for a message: it ends alike, or has a
        similar spelling.
        """
        path = _clean(path[:_MAX_COMPARED_CHARS])
        known = sorted(self._literal, key=len, reverse=True)
        if nearest := difflib.get_close_matches(path, known, n=1, cutoff=0.9):
            return nearest[0]
        for one in known:
            ending = _VERSIONS.sub("", one, count=1)
            if ending.strip("/") and path.endswith(ending):
                return one
        near = difflib.get_close_matches(path, known, n=1, cutoff=0.7)
        return near[0] if near else None


class MeantPaths:
    """ASGI middleware, in front of every guard: a request goes on with the path that is
    meant.
    """

    def __init__(self, app: ASGIApp, *, routes: KnownRoutes) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "path" in scope:
            meant = self._routes.meant_by(scope["path"])
            if meant != scope["path"]:
                scope = {**scope, "path": meant, "raw_path": meant.encode()}
        await self._app(scope, receive, send)


def _clean(path: str) -> str:
    """Without doubled slashes and without one at the end."""
    return re.sub(r"/{2,}", "/", path).rstrip("/") or "/"


def _readings(path: str) -> Iterator[str]:
    """What a clean path may mean, the likeliest first."""
    yield path
    versions = _VERSIONS.match(path)
    bare = path[versions.end() :] if versions else path
    yield _VERSION + bare
    yield bare or "/"
