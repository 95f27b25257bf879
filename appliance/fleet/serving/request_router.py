"""Ray Serve's request router, as the book of a door has it.

Knows no policy. Ray copies this module by value into other processes: what is one for a
process is asked for by a function of another module. Source: https://docs.ray.io/en/latest/serve/advanced-guides/custom-request-router.html
"""

from __future__ import annotations

from typing import Any

import msgspec
import ray
from ray.serve.request_router import (
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

from appliance.fleet.serving.book import book_of
from appliance.fleet.serving.wire import ReplicaState, decode_state


class FleetRequestRouter(RequestRouter):  # type: ignore[misc] # ray is not looked into
    """Puts a model's replicas in order for each request."""

    def initialize_state(self, **_kwargs: Any) -> None:
        self._book = book_of(self._deployment_id.name)
        self._own_node = ray.get_runtime_context().get_node_id()

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        super().update_replicas(replicas)
        own = (each for each in replicas if each.node_id == self._own_node)
        nearest = next((_name(each.replica_id) for each in own), None)
        states = {_name(each.replica_id): _state(each) for each in replicas}
        self._book.replicas_are(states, nearest)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        if pending_request is None:
            return [candidate_replicas]
        # whoever cannot be reached now is asked again, a little later each time
        pending_request.routing_context.should_backoff = True
        by_name = {_name(each.replica_id): each for each in candidate_replicas}
        ranked = self._book.ranked(_key(pending_request), [*by_name])
        return [[by_name[name]] for name in ranked]

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: object
    ) -> None:
        del result
        self._book.went(_key(pending_request), _name(replica_id))


def _key(request: PendingRequest) -> str:
    """The first argument of `Replica.answer`; calls of others have none."""
    return str(request.args[0]) if request.args else ""


def _name(replica_id: ReplicaID) -> str:
    return str(replica_id.unique_id)


def _state(replica: RunningReplica) -> ReplicaState | None:
    """None before it has said anything."""
    data = replica.routing_stats.get("state")
    try:
        return None if data is None else decode_state(data)
    except msgspec.DecodeError:  # of another version, while a fleet is upgraded
        return None
