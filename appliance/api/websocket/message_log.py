"""The requests of one WebSocket as the log has them: each with an id, which is the
connection's and its number, and with a line at its end.

Knows no message.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from starlette.types import Scope

from appliance.api.door.access_log import AccessLog
from appliance.api.door.request_ids import origin_of
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.telemetry.context import RequestContext, current_request


@dataclass
class MessageOutcome:
    """HTTP's status of what a message asked for; None while it is not known."""

    status: int | None = None


class MessageLog:
    """`scope` is that of the connection."""

    def __init__(self, scope: Scope, caller: Caller) -> None:
        connection = current_request()
        self._origin = origin_of(scope["headers"]) if connection is None else connection.origin
        self._access_log: AccessLog = scope["app"].state.access_log
        self._path: str = scope["path"]
        self._caller = caller
        self._num_requests = 0

    @contextmanager
    def request(self, kind: str) -> Iterator[MessageOutcome]:
        """Around what one message asks for, in a task of its own."""
        self._num_requests += 1
        request_id = f"{self._origin.request_id}.{self._num_requests}"
        origin = replace(self._origin, request_id=request_id)
        context = RequestContext(origin=origin, caller_id=self._caller.id)
        context.begin()
        began_s = time.perf_counter()
        outcome = MessageOutcome()
        try:
            yield outcome
        finally:
            what, elapsed_s = f"WEBSOCKET {self._path} {kind}", time.perf_counter() - began_s
            self._access_log.write_message(what, context, outcome.status, elapsed_s)
