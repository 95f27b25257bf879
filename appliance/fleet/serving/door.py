"""A door: where requests come in. The API and the gateway of a server, whose models are
replicas elsewhere.

Knows no Ray: it is handed the way to each model's replicas.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from appliance.api.app import create_app
from appliance.api.door.hosts import names_to_check
from appliance.errors import ApplianceError
from appliance.fleet.serving.book import book_of
from appliance.fleet.serving.door_accounts import DoorAccounts, OwnerAway, OwnerCalls
from appliance.fleet.serving.remote_model import FleetPatience, RemoteModel, ReplicaCalls
from appliance.fleet.serving.settings import FleetTable, node_settings
from appliance.fleet.serving.states import facts_of, reports_of
from appliance.gateway.library.facts import ModelDefaults
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.queue.queues import QueueRules
from appliance.gateway.router import Router, ServedModel
from appliance.gateway.tiers.rules import AutoRules
from appliance.gateway.usage.log import UsageLog
from appliance.gateway.usage.report import Prices
from appliance.protocol.questions import DescribeText


@dataclass(frozen=True, kw_only=True)
class FleetModel:
    """A model as clients see it."""

    id: str
    deployment: str  # of its replicas
    aliases: tuple[str, ...] = ()
    defaults: ModelDefaults = field(default_factory=ModelDefaults)


@dataclass(frozen=True, kw_only=True)
class DoorConfig:
    """What all doors have in common."""

    models: Sequence[FleetModel]
    auto: AutoRules
    fleet: FleetTable
    table: Mapping[str, Any]
    folder: str
    max_body_bytes: int


class DoorGateway:
    """A door, but for what makes HTTP of it."""

    def __init__(
        self, config: DoorConfig, calls: Mapping[str, ReplicaCalls], owner: OwnerCalls
    ) -> None:
        """`calls`: by the names of deployments. Raises `BadSettings`."""
        self._config = config
        self._settings = node_settings(config.table, Path(config.folder))
        patience = FleetPatience(silence_s=config.fleet.silence_s)
        models = [_served(model, config, calls, patience) for model in config.models]
        self._accounts = DoorAccounts(owner)
        prices = Prices(
            price_per_hour=self._settings.price_per_hour,
            watts=self._settings.watts,
            gco2_per_kwh=self._settings.gco2_per_kwh,
        )
        self.gateway = Gateway(
            Router(models, config.auto),
            self._accounts.admission,
            quotas=self._accounts.quotas,
            queue_rules=QueueRules(request_timeout_s=self._settings.request_timeout_s or None),
            usage=UsageLog(self._accounts.usage, prices=prices),
        )
        for model in models:
            assert isinstance(model.client, RemoteModel), model.client
            model.client.num_waiting_tokens = self._waiting_for(model.client)
        self._works: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Returns when nobody is let in who should not be."""
        await self._accounts.begin()
        works = (self._accounts.run(), self.gateway.metrics.stats.run(), self._look_around())
        self._works = [asyncio.create_task(work) for work in works]

    async def end(self) -> None:
        """The last counts are told, if the owner is there."""
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)
        with contextlib.suppress(OwnerAway):
            await self._accounts.exchange()
        await self.gateway.close()

    def app(self) -> FastAPI:
        settings = self._settings
        return create_app(
            self.gateway,
            max_body_bytes=self._config.max_body_bytes,
            client_timeout_s=settings.client_timeout_s,
            sse_keep_alive_s=settings.sse_keep_alive_s,
            allowed_hosts=names_to_check(
                settings.host,
                settings.allowed_host,
                requires_key=self._accounts.admission.requires_key,
            ),
            allowed_origins=settings.allow_origin,
            strict_parameters=settings.strict_parameters,
            logs_prompts=settings.log_prompts,
        )

    def _waiting_for(self, client: RemoteModel) -> Callable[[], int]:
        return lambda: self.gateway.num_waiting_tokens(client)

    async def _look_around(self) -> None:
        """Asks each model something: before anybody has, Ray tells nothing of its replicas."""
        for model in self.gateway.router.models:
            with contextlib.suppress(ApplianceError):
                await model.client.ask(DescribeText())


def _served(
    model: FleetModel,
    config: DoorConfig,
    calls: Mapping[str, ReplicaCalls],
    patience: FleetPatience,
) -> ServedModel:
    book = book_of(model.deployment)
    book.route_by(config.fleet.routing)
    return ServedModel(
        id=model.id,
        client=RemoteModel(calls[model.deployment], book, patience),
        created=int(time.time()),
        aliases=model.aliases,
        defaults=model.defaults,
        facts=lambda: facts_of([*book.states.values()]),
        replicas=lambda: reports_of([*book.states.values()]),
    )
