"""Parameters of a body that nobody here knows: they are left out and named, in a header
of the response and once for each client in the log, or refused.

Knows no parameter.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from typing import Any
from urllib.parse import quote

from starlette.types import Scope

from appliance.gateway.accounts.caller import ANONYMOUS, Caller

IGNORED_HEADER = "x-ignored-parameters"
_MAX_NAMES = 16  # named; a body may have a million
_MAX_NAME_CHARS = 64
_MAX_CLIENTS = 1024  # remembered; who comes back after so many others is logged again
_STATE = "ignored_parameters"  # in the scope of a request

_log = logging.getLogger(__name__)


class UnknownParameters:
    """What becomes of them, for one application."""

    def __init__(self, *, are_refused: bool) -> None:
        self.are_refused = are_refused
        self._logged: dict[str, None] = {}  # clients, the latest last

    def taken_off(
        self, body: Mapping[str, Any], known: Container[str], scope: Scope, within: str = ""
    ) -> dict[str, Any]:
        """The body without them, unless validation is to refuse them. Null is absent.

        `within` is put before their names: the body may be a field of another one.
        """
        unknown = [name for name, value in body.items() if name not in known and value is not None]
        if self.are_refused or not unknown:
            return {**body}
        named = [within + quote(name[:_MAX_NAME_CHARS], safe="") for name in unknown[:_MAX_NAMES]]
        names = ", ".join([*named, "..."] if len(unknown) > len(named) else named)
        state = scope.setdefault("state", {})
        state[_STATE] = f"{state[_STATE]}, {names}" if _STATE in state else names
        self._log_once(_client_of(scope), names)
        return {name: value for name, value in body.items() if name in known}

    def _log_once(self, client: str, names: str) -> None:
        is_new = client not in self._logged
        self._logged.pop(client, None)
        self._logged[client] = None
        if is_new:
            if len(self._logged) > _MAX_CLIENTS:
                del self._logged[next(iter(self._logged))]
            _log.info(
                "%s sends parameters that this server does not know and ignores: %s "
                "(--strict-parameters refuses them)",
                client,
                names,
            )


def ignored_headers(scope: Scope) -> dict[str, str]:
    """For every response to a request whose parameters were left out."""
    names = scope.get("state", {}).get(_STATE)
    return {} if names is None else {IGNORED_HEADER: names}


def _client_of(scope: Scope) -> str:
    """The caller's id, where there are keys; else the client's address."""
    caller = scope.get("state", {}).get("caller")
    if isinstance(caller, Caller) and caller != ANONYMOUS:
        return caller.id
    address = scope.get("client")
    return address[0] if address else "A client"
