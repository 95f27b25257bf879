"""A fleet's file, deployed on the cluster whose head is there, and again where it or the
number of nodes has changed.

Knows no process of Ray's, and no signal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import ray
from ray import serve

from appliance.api.transport.body import MAX_BODY_BYTES
from appliance.errors import SetupError
from appliance.fleet.serving.application import NAME, application, deployment_name
from appliance.fleet.serving.door import FleetModel
from appliance.fleet.serving.settings import FleetFile
from appliance.gateway.tiers.rules import AutoRules
from appliance.launch.names import NamedModel
from appliance.settings import ServeSettings

_log = logging.getLogger(__name__)
_IDLE_S = 120  # as in `appliance.cli.listening`
_GONE_S = 60.0  # a node that is away for so long is not waited for


@dataclass(frozen=True, kw_only=True)
class FleetPlan:
    """What is to be deployed."""

    file: FleetFile
    settings: ServeSettings
    models: tuple[NamedModel, ...]
    auto: AutoRules = field(default_factory=AutoRules)
    file_keys: tuple[bytes, ...] = ()  # digests of those of `api_key_file`


class Deployment:
    """Of one fleet. `read` gives the plan as the file has it now."""

    def __init__(self, read: Callable[[], FleetPlan]) -> None:
        self._read = read
        self._plan = read()
        self._num_nodes = 0
        self._seen_s: dict[str, float] = {}  # when each machine was there last, by address

    def begin(self) -> None:
        """Raises `SetupError` where what is deployed does not come up."""
        plan = self._plan
        ray.init(address=plan.file.fleet.ray, log_to_driver=False, configure_logging=False)
        settings = plan.settings
        serve.start(
            proxy_location="EveryNode",
            http_options={
                "host": settings.host,
                "port": settings.port,
                "keep_alive_timeout_s": _IDLE_S,
                "ssl_certfile": None if settings.tls_cert is None else str(settings.tls_cert),
                "ssl_keyfile": None if settings.tls_key is None else str(settings.tls_key),
            },
        )
        self._deploy(plan, self._count_nodes())

    def look(self) -> None:
        """Nodes that came have replicas of their own, those that are gone for good are not
        waited for.
        """
        num_nodes = self._count_nodes()
        if num_nodes != self._num_nodes:
            _log.info("the fleet has %d nodes now", num_nodes)
            self._deploy(self._plan, num_nodes)

    def reload(self) -> None:
        """What has changed in the file is rolled out, replica after replica. Raises
        `SetupError`; then everything is as before.
        """
        self._deploy(self._read(), self._num_nodes)

    def end(self) -> None:
        """Answers in flight may come to their end."""
        serve.shutdown()
        ray.shutdown()

    def _deploy(self, plan: FleetPlan, num_nodes: int) -> None:
        """What is to be deployed is known again only once it is, so that it is tried again."""
        models = [
            FleetModel(
                id=model.id,
                deployment=deployment_name(model.id),
                aliases=model.aliases,
                defaults=model.defaults,
            )
            for model in plan.models
        ]
        deployed = application(
            plan.file,
            models,
            auto=plan.auto,
            owned=(plan.settings.state_dir, plan.file_keys),
            max_body_bytes=plan.settings.max_body_bytes or MAX_BODY_BYTES,
            num_nodes=num_nodes,
        )
        try:
            serve.run(deployed, name=NAME, route_prefix="/")
        except RuntimeError as error:
            raise SetupError(f"The fleet did not come up. {error}") from error
        self._plan, self._num_nodes = plan, num_nodes

    def _count_nodes(self) -> int:
        """By their addresses: a machine that comes back is another node to Ray, which may not
        know yet that the former one is gone.
        """
        now_s = time.monotonic()
        self._seen_s |= {node["NodeManagerAddress"]: now_s for node in ray.nodes() if node["Alive"]}
        return sum(now_s - seen_s < _GONE_S for seen_s in self._seen_s.values())
