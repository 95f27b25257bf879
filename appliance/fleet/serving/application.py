"""The Ray Serve application of a fleet: doors, and the replicas of each model.

Knows no request. Source: https://docs.ray.io/en/latest/serve/api/
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance import __version__
from appliance.api.door.request_ids import REQUEST_ID_HEADER
from appliance.fleet.serving.door import DoorConfig, DoorGateway, FleetModel
from appliance.fleet.serving.owner import Owner
from appliance.fleet.serving.ray_calls import HandleCalls, HandleOwner
from appliance.fleet.serving.replica import Replica, ReplicaConfig
from appliance.fleet.serving.settings import PER_NODE, FleetFile, Replicas, Scaling
from appliance.gateway.tiers.rules import AutoRules

NAME = "appliance"
_MANY = 10_000  # requests that a process of ours may have: our own queues bound them
_LEAST_LOOK_BACK_S = 11.0  # Ray's replicas are counted every 10 s
_STATE_S = 1.0  # between two states of a replica
_HEAD = "node:__internal_head__"  # a resource that Ray gives to the head's node alone
_ROUTER = "appliance.fleet.serving.request_router.FleetRequestRouter"
_POLICY = "appliance.fleet.serving.autoscaling.WaitingTokens"


class Door:
    """The class of doors: their application is made in each of them."""

    async def __init__(  # type: ignore[misc] # Ray awaits it
        self, config: DoorConfig, handles: dict[str, DeploymentHandle], owner: DeploymentHandle
    ) -> None:
        calls = {name: HandleCalls(handle) for name, handle in handles.items()}
        self._door = DoorGateway(config, calls, HandleOwner(owner))
        await self._door.begin()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Ray asks for it once, behind `__init__`."""
        app = self._door.app()
        app.add_middleware(WithoutRequestId)
        return app

    async def __del__(self) -> None:
        if hasattr(self, "_door"):
            await self._door.end()


class WithoutRequestId:
    """Ray's proxy has every answer carry the request's id, and so it need not twice."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [each for each in message["headers"] if each[0] != REQUEST_ID_HEADER]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_on)


class OwnerReplica(Owner):
    """The owner, as Ray ends it."""

    async def __del__(self) -> None:
        await self.close()


def deployment_name(model_id: str) -> str:
    """Ray takes letters, digits, `-` and `_`, and so no two ids become the same."""
    return "model-" + re.sub(r"[^A-Za-z0-9-]", lambda found: f"_{ord(found.group()):x}_", model_id)


def application(
    file: FleetFile,
    models: list[FleetModel],
    *,
    auto: AutoRules,
    owned: tuple[Path, tuple[bytes, ...]],
    max_body_bytes: int,
    num_nodes: int,
) -> Application:
    """For `serve.run`. `owned`: what `Owner` takes."""
    handles = {model.deployment: _replicas(file, model, num_nodes) for model in models}
    config = DoorConfig(
        models=models,
        auto=auto,
        fleet=file.fleet,
        table=file.table,
        folder=file.folder,
        max_body_bytes=max_body_bytes,
    )
    door: Any = serve.deployment(serve.ingress()(Door)).options(
        **_as("door", config),
        num_replicas=file.fleet.doors or num_nodes,
        max_replicas_per_node=1,
        max_ongoing_requests=_MANY,
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=2.0,
        health_check_timeout_s=5.0,
        graceful_shutdown_timeout_s=30.0,
    )
    owner: Any = serve.deployment(OwnerReplica).options(
        **_as("owner", owned),
        num_replicas=1,
        max_ongoing_requests=_MANY,
        ray_actor_options={"num_cpus": 0, "resources": {_HEAD: 0.001}},
        health_check_period_s=2.0,
        health_check_timeout_s=5.0,
    )
    return door.bind(config, handles, owner.bind(*owned))


def _replicas(file: FleetFile, model: FleetModel, num_nodes: int) -> Application:
    fleet = file.fleet
    wanted = fleet.replicas.get(model.id, PER_NODE)
    config = ReplicaConfig(model_id=model.id, table=file.table, folder=file.folder)
    deployment: Any = serve.deployment(Replica).options(
        **_as(model.deployment, config),
        max_replicas_per_node=None if fleet.cpus else 1,
        max_ongoing_requests=_MANY,
        ray_actor_options={"num_cpus": fleet.cpus},
        health_check_period_s=2.0,
        health_check_timeout_s=5.0,
        graceful_shutdown_timeout_s=120.0,
        graceful_shutdown_wait_loop_s=0.5,
        request_router_config=RequestRouterConfig(
            request_router_class=_ROUTER, request_routing_stats_period_s=_STATE_S
        ),
        **_number(wanted, num_nodes, fleet.settling_s),
    )
    return deployment.bind(config)


def _as(name: str, config: object) -> dict[str, Any]:
    """What is deployed again runs on where this is the same: more nodes restart nothing."""
    version = hashlib.blake2b(f"{__version__} {config!r}".encode(), digest_size=16).hexdigest()
    return {"name": name, "version": version, "_internal": True}


def _number(wanted: Replicas, num_nodes: int, settling_s: float) -> dict[str, Any]:
    if isinstance(wanted, Scaling):
        policy = AutoscalingPolicy(
            policy_function=_POLICY, policy_kwargs={"waiting_tokens": wanted.waiting_tokens}
        )
        return {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=wanted.min,
                max_replicas=wanted.max,
                policy=policy,
                upscale_delay_s=settling_s,
                downscale_delay_s=4 * settling_s,
                look_back_period_s=max(settling_s, _LEAST_LOOK_BACK_S),
            )
        }
    return {"num_replicas": num_nodes if wanted == PER_NODE else wanted}
