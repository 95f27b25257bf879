"""The ways to a model's replicas, and to the owner, that Ray Serve gives: handles.

Knows no request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextvars import Context
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from appliance.errors import ApplianceError
from appliance.fleet.serving.door_accounts import OwnerAway
from appliance.fleet.serving.owner import DoorReport, OwnerNews
from appliance.fleet.serving.remote_model import ReplicaLost
from appliance.fleet.serving.wire import AtDoor
from appliance.gateway.usage.keys import KeyUse
from appliance.gateway.usage.query import UsageQuery
from appliance.gateway.usage.report import UsageReport
from appliance.time_limit import within

_OWNER_S = 5.0  # for which a door waits for the owner


class HandleCalls:
    """Implements `ReplicaCalls`."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._answer = handle.options(stream=True, method_name="answer")

    async def answer(
        self, key: str, payload: bytes, at_door: AtDoor
    ) -> AsyncGenerator[bytes, None]:
        response = _alone(self._answer, key, payload, at_door)
        is_whole = False
        try:
            async for data in response:
                yield data
            is_whole = True
        except (RayError, RayServeException) as error:
            raise ReplicaLost(
                "The machine or the process that computed this answer was lost "
                f"({type(error).__name__}). Send the request again."
            ) from error
        finally:
            if not is_whole:
                response.cancel()


class HandleOwner:
    """Implements `OwnerCalls`."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def exchange(self, report: DoorReport) -> OwnerNews:
        news = await self._ask("exchange", report)
        assert isinstance(news, OwnerNews), news
        return news

    async def usage_report(self, query: UsageQuery) -> UsageReport:
        report = await self._ask("usage_report", query)
        assert isinstance(report, UsageReport), report
        return report

    async def key_uses(self, now_s: float) -> dict[str, KeyUse]:
        uses: dict[str, KeyUse] = await self._ask("key_uses", now_s)
        return uses

    async def _ask(self, method: str, argument: object) -> Any:
        response = _alone(self._handle.options(method_name=method), argument)
        try:
            return await within(_OWNER_S, _result(response))
        except (RayError, RayServeException, ApplianceError, asyncio.TimeoutError) as error:
            response.cancel()
            reason = type(error).__name__
            raise OwnerAway(f"The owner of keys and usage cannot be asked ({reason}).") from error


def _alone(handle: DeploymentHandle, *arguments: object) -> Any:
    """A call that Ray does not take for a part of the HTTP request over which it is made: of
    several parts to one deployment at once, which share an id, its router forgets all but
    one (`RequestRouter._add_pending_request_to_indices` in 2.60).
    """
    return Context().run(handle.remote, *arguments)


async def _result(response: Any) -> Any:
    return await response
