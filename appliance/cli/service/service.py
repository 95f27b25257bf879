"""Everything that runs while we serve, made from the settings.

Knows no signals and no order of starting and ending, but that of closing.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.cli.listening import HttpServer, http_config
from appliance.cli.network.certificates import Certificates
from appliance.cli.progress_lines import ServerProgress
from appliance.cli.service.answer_caches import answer_caches
from appliance.cli.service.auto import auto_rules
from appliance.cli.usage.recording import usage_log
from appliance.gateway.accounts.accounts import Accounts
from appliance.gateway.batches.batches import open_batches
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.managed_model import WaitLimits
from appliance.gateway.manager import ModelManager, Terms
from appliance.gateway.pressure_watch import PressureWatch
from appliance.gateway.queue.queues import QueueRules
from appliance.gateway.room import Rules
from appliance.gateway.router import Router, ServedModel
from appliance.gateway.stored_responses.database_store import DatabaseStore, open_store
from appliance.gateway.thermal.governor import Mode
from appliance.gateway.thermal.watch import ThermalWatch
from appliance.launch.adapters import served_adapters
from appliance.launch.library.library import Changing, ModelLibrary
from appliance.launch.library.reading import KnownFacts
from appliance.launch.library.served import Serving
from appliance.launch.loader import ModelLoader
from appliance.launch.names import NamedModel, keep_alive_of_others, spec_maker
from appliance.launch.quarantine import Quarantine
from appliance.launch.start_plan import StartPlan, plan_start
from appliance.logs import JSON
from appliance.loopback import is_local
from appliance.settings import ServeSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Service:
    """Everything that runs while we serve."""

    gateway: Gateway
    accounts: Accounts
    manager: ModelManager
    watch: PressureWatch
    thermal: ThermalWatch
    http: HttpServer
    preload: tuple[str, ...]  # ids of the models to load at the start
    certificates: Certificates | None = None  # where TLS is spoken
    store: DatabaseStore | None = None  # of responses, where they are stored

    async def close(self) -> None:
        """What was to be written is written; nothing is served any more."""
        if self.store is not None:
            await self.store.close()
        if self.gateway.batches is not None:
            await self.gateway.batches.close()
        await self.accounts.close()
        await self.gateway.close()


def make_service(
    settings: ServeSettings,
    models: Sequence[NamedModel],
    accounts: Accounts,
    certificates: Certificates | None = None,
) -> Service:
    """Raises `SetupError` where serving is impossible: see `plan_start`."""
    on_event = ServerProgress(sys.stderr, _log, logs_all=settings.log_format == JSON)
    quarantine = Quarantine()
    start = plan_start(settings, models, quarantine, on_event)
    first = {} if start.planned is None else {start.models[0].id: start.planned}
    specs = {model.id: model.spec for model in start.models}
    loader = ModelLoader(specs, start.pool, on_event, first=first, quarantine=quarantine)
    manager = _manager(settings, start, loader)
    router = Router([_served(model, manager) for model in start.models], auto_rules(settings))
    serving = Serving(
        models=start.models,
        router=router,
        manager=manager,
        loader=loader,
        keep_alive_s=keep_alive_of_others(settings),
    )
    store = _response_store(settings)
    gateway = Gateway(
        router,
        accounts.admission,
        quotas=accounts.quotas,
        keys=accounts.administration,
        library=ModelLibrary(_changing(settings, serving, start.body_bytes)),
        responses=store,
        batches=open_batches(settings.state_dir, settings.files_bytes),
        queue_rules=QueueRules(request_timeout_s=settings.request_timeout_s or None),
        usage=usage_log(settings),
        caches=answer_caches(settings),
    )
    watch = PressureWatch(
        router,
        start.pool.budget,
        gateway.metrics,
        unload_idle=manager.unload_idle if len(start.models) > 1 else None,
        predicted_bytes=manager.anonymous_bytes,
    )
    return Service(
        gateway=gateway,
        accounts=accounts,
        manager=manager,
        watch=watch,
        thermal=ThermalWatch(router, gateway.metrics, mode=Mode(settings.thermal)),
        http=HttpServer(http_config(settings, gateway, start.body_bytes, certificates)),
        preload=tuple(model.id for model in start.models if model.is_preloaded),
        certificates=certificates,
        store=store,
    )


def _manager(settings: ServeSettings, start: StartPlan, loader: ModelLoader) -> ModelManager:
    return ModelManager(
        [Terms(model.id, model.keep_alive_s) for model in start.models],
        loader,
        max(0, start.pool.models_bytes),
        rules=Rules(
            allows_smaller=not settings.never_smaller,
            waiting=WaitLimits(wait_s=settings.load_wait_s),
        ),
    )


def _response_store(settings: ServeSettings) -> DatabaseStore | None:
    if not settings.store_responses.seconds:
        return None
    return open_store(
        settings.state_dir,
        lifetime_s=settings.store_responses.seconds,
        max_bytes=settings.store_responses_bytes,
    )


def _changing(settings: ServeSettings, serving: Serving, body_bytes: int) -> Changing:
    """How models come and go while we serve."""
    make = spec_maker(settings)
    is_private = is_local(settings.host)
    return Changing(
        serving=serving,
        models_dir=settings.models_dir,
        spec_of=lambda model_id, argument: replace(
            make(model_id, argument), max_body_bytes=body_bytes
        ),
        is_allowed=settings.model_changes == "on"
        or (settings.model_changes == "auto" and is_private),
    )


def _served(model: NamedModel, manager: ModelManager) -> ServedModel:
    managed = manager.model(model.id)
    return ServedModel(
        id=model.id,
        client=managed,
        created=int(time.time()),
        aliases=model.aliases,
        load_report=managed.report,
        stay=managed.stay,
        defaults=model.defaults,
        adapters=served_adapters(model.spec.adapters),
        facts=KnownFacts(model.spec),
    )
