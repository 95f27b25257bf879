"""Who asks, from the guard that knows it to the endpoint that hands it on.

Knows no keys.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection
from starlette.types import Scope

from appliance.gateway.accounts.caller import Caller
from appliance.gateway.telemetry.context import current_request


def set_caller(scope: Scope, caller: Caller) -> None:
    scope.setdefault("state", {})["caller"] = caller
    if (context := current_request()) is not None:
        context.caller_id = caller.id


async def caller_of(connection: HTTPConnection) -> Caller:
    """A dependency; async, for FastAPI would call a plain function in a thread."""
    caller = connection.state.caller
    assert isinstance(caller, Caller), "KeyGuard lets nobody else through"
    return caller


RequestCaller = Annotated[Caller, Depends(caller_of)]
