"""`appliance serve`: from the settings to a server
that listens, loads and ends in good order.

Knows no endpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from appliance.cli.listening import (
    HttpServer,
    allow_many_files,
    base_url,
    http_config,
    listening_sockets,
)
from appliance.cli.network import unix_socket
from appliance.cli.network.certificates import Certificates
from appliance.cli.network.hangups import hold_hangups
from appliance.cli.network.reloading import Reloading
from appliance.cli.notify import Notifier
from appliance.cli.progress_lines import ServerProgress
from appliance.cli.stop_signals import StopSignal, on_stop_signal, raise_on_stop_signals
from appliance.cli.traces import traces_to
from appliance.cli.usage.recording import read_power, usage_log
from appliance.errors import BadSettings
from appliance.fit.plan.budget import Budget, memory_budget, readable
from appliance.fit.plan.footprint import shared_bytes
from appliance.fit.plan.shares import body_bytes_for_all, longest_ctx
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
from appliance.launch.files import is_prepared, prepare_model
from appliance.launch.library.library import Changing, ModelLibrary
from appliance.launch.library.served import Serving
from appliance.launch.loader import ModelLoader, PlannedModel, Pool
from appliance.launch.machine import (
    Machine,
    measure_hardware,
    measure_machine,
    with_cpu_paths,
)
from appliance.launch.names import (
    NamedModel,
    embedded_spec,
    keep_alive_of_others,
    named_models,
    spec_maker,
)
from appliance.launch.planning import launch_of
from appliance.launch.prepare_child import prepare_in_child
from appliance.launch.quarantine import Quarantine
from appliance.launch.spec import ModelSpec
from appliance.launch.time_budget import TimeBudget
from appliance.launch.tuning.bench import OtherWork
from appliance.launch.tuning.first_start import tune_at_first_start
from appliance.launch.tuning.recall import best_plan, untuned_plan
from appliance.llama.checks import CpuPath
from appliance.logs import JSON, log_to_stderr
from appliance.loopback import is_local, socket_path
from appliance.settings import ServeSettings
from appliance.settings.service_manager import service_manager
from appliance.store.event import OnEvent

_log = logging.getLogger(__name__)


def run(settings: ServeSettings, read: Callable[[], ServeSettings]) -> int:
    """Serves until SIGTERM or SIGINT; returns 0 after a stop in good order. `read` gives the
    settings of now, on SIGHUP.
    """
    hold_hangups()
    log_to_stderr(settings.log_level, settings.log_format)
    if settings.log_prompts:
        _log.warning("prompts are logged (--log-prompts): whoever reads this log reads them")
    accounts = Accounts(settings.state_dir, settings.api_key_file)
    _check_closed(settings, accounts)
    certificates = Certificates(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
    allow_many_files()
    try:
        raise_on_stop_signals()
        with contextlib.ExitStack() as stack:
            listening = [stack.enter_context(sock) for sock in listening_sockets(settings)]
            if (path := socket_path(settings.host)) is not None:
                stack.callback(unix_socket.removal(path))
            tracers = stack.enter_context(traces_to(settings.otlp_endpoint))
            service = make_service(settings, named_models(settings), accounts, certificates)
            for tracer in tracers:
                service.gateway.metrics.requests.add_listener(tracer)
            asyncio.run(serve(settings, listening, service, read))
    except StopSignal:
        _log.info("stopped before a model was loaded")
    return 0


def _check_closed(settings: ServeSettings, accounts: Accounts) -> None:
    if is_local(settings.host) or accounts.admission.requires_key or settings.insecure:
        return
    raise BadSettings(
        f"--host {settings.host} can be reached from other machines, but no API key is required. "
        "Make one with 'appliance keys create NAME' (of the same --state-dir), add --api-key-file "
        "FILE, or --insecure if that is what you want, or listen on 127.0.0.1."
    )


@dataclass(frozen=True, kw_only=True)
class Service:
    """Everything that runs while we serve."""

    gateway: Gateway
    accounts: Accounts
    manager: ModelManager
    watch: PressureWatch
    http: HttpServer
    preload: tuple[str, ...]  # ids of the models to load at the start
    certificates: Certificates | None = None  # where TLS is spoken
    store: DatabaseStore | None = None  # of responses, where they are stored


def make_service(
    settings: ServeSettings,
    models: Sequence[NamedModel],
    accounts: Accounts,
    certificates: Certificates | None = None,
) -> Service:
    """Plans what can be planned before anything is loaded.

    Raises `SetupError` where serving is impossible.

    A single model that is loaded at the start is prepared and planned here, so that
    whatever is wrong with it is reported at once; of several each is prepared when it
    is loaded, and one that is not there costs only its own requests; none is tuned, for
    others may be running by then.
    """
    on_event = ServerProgress(sys.stderr, _log, logs_all=settings.log_format == JSON)
    first: dict[str, PlannedModel] = {}
    quarantine = Quarantine()
    if len(models) == 1 and models[0].is_preloaded:
        planned = _plan_first(models[0].spec, quarantine, on_event)
        first, pool = {models[0].id: planned}, planned.pool
        body_bytes = planned.plan.max_body_bytes
    else:
        budget = _budget_of_all(settings, on_event)
        longest = longest_ctx([model.spec.settings.ctx for model in models])
        body_bytes = settings.max_body_bytes or body_bytes_for_all(longest, budget)
        pool = Pool(budget, shared_bytes(body_bytes))
        models = [
            replace(model, spec=replace(model.spec, max_body_bytes=body_bytes)) for model in models
        ]
        _log.info(
            "memory for all models together: %s (%s)",
            readable(max(0, pool.models_bytes)),
            budget.explanation,
        )
    specs = {model.id: model.spec for model in models}
    loader = ModelLoader(specs, pool, on_event, first=first, quarantine=quarantine)
    manager = ModelManager(
        [Terms(model.id, model.keep_alive_s) for model in models],
        loader,
        max(0, pool.models_bytes),
        rules=Rules(
            allows_smaller=not settings.never_smaller,
            waiting=WaitLimits(wait_s=settings.load_wait_s),
        ),
    )
    router = Router([_served(model, manager) for model in models])
    serving = Serving(
        models=models,
        router=router,
        manager=manager,
        loader=loader,
        keep_alive_s=keep_alive_of_others(settings),
    )
    library = ModelLibrary(_changing(settings, serving, body_bytes))
    store = _response_store(settings)
    batches = open_batches(settings.state_dir, settings.files_bytes)
    gateway = Gateway(
        router,
        accounts.admission,
        quotas=accounts.quotas,
        library=library,
        responses=store,
        batches=batches,
        queue_rules=QueueRules(request_timeout_s=settings.request_timeout_s or None),
        usage=usage_log(settings),
    )
    watch = PressureWatch(
        gateway.router,
        pool.budget,
        gateway.metrics,
        unload_idle=manager.unload_idle if len(models) > 1 else None,
        predicted_bytes=manager.anonymous_bytes,
    )
    http = HttpServer(http_config(settings, gateway, body_bytes, certificates))
    return Service(
        gateway=gateway,
        accounts=accounts,
        manager=manager,
        watch=watch,
        http=http,
        preload=tuple(model.id for model in models if model.is_preloaded),
        certificates=certificates,
        store=store,
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


def _plan_first(spec: ModelSpec, quarantine: Quarantine, on_event: OnEvent) -> PlannedModel:
    """The plan that is loaded at the start, tuned; what a hub has of the model is
    pulled first.
    """
    hardware = measure_hardware(spec.settings)  # first: a GPU that is not there is said at once
    if not is_prepared(spec):
        asyncio.run(prepare_in_child(spec, on_event))
    model = prepare_model(spec, on_event)
    budget, others = TimeBudget(), OtherWork()
    launch = launch_of(spec, model, with_cpu_paths(hardware, spec, on_event, budget))
    _log_machine(launch.machine)
    untuned = untuned_plan(launch)
    if not spec.settings.no_tune:
        tune_at_first_start(launch, untuned, on_event, budget, others)
    plan = best_plan(launch, untuned)
    pool = Pool(plan.budget, plan.need.shared_bytes)
    return PlannedModel(
        launch=launch, spec=spec, plan=plan, pool=pool, quarantine=quarantine, on_event=on_event
    )


def _budget_of_all(settings: ServeSettings, on_event: OnEvent) -> Budget:
    machine = measure_machine(embedded_spec(settings), on_event, TimeBudget())
    _log_machine(machine)
    return memory_budget(machine.device, settings.ram)


def _log_machine(machine: Machine) -> None:
    if machine.gpu_finding is not None:
        _log.info("computing on the CPU: %s", machine.gpu_finding)
    for path in CpuPath:
        found = machine.paths.of(path)
        if not found.usable and not found.waits_for:
            _log.warning(
                "%s are not used: %s (run 'appliance doctor' for more)",
                path.label,
                machine.paths.of(path).finding,
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
    )


async def serve(
    settings: ServeSettings,
    sockets: list[socket.socket],
    service: Service,
    read: Callable[[], ServeSettings],
) -> None:
    """The HTTP side is up from the first moment,
    so that /health can report how the load goes.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    gateway, manager = service.gateway, service.manager
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_stop_signal, stop, gateway)
    if gateway.batches is not None:
        await gateway.batches.prepare()
    serving = asyncio.create_task(service.http.serve(sockets=sockets), name="http")
    stopping = asyncio.create_task(stop.wait(), name="stop signal")
    loading = asyncio.create_task(manager.preload(service.preload), name="load")
    failing = asyncio.create_task(manager.failed(), name="failure")
    batching = asyncio.create_task(_answer_batches(gateway), name="batches")
    notifier = Notifier(service_manager())
    alive = asyncio.create_task(notifier.keep_alive(), name="watchdog")
    beside = _work_beside(settings, service, read)
    try:
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()  # raises why the only model could not be loaded
            where = (
                f"{', '.join(model.id for model in gateway.router.models)} at {base_url(settings)}"
            )
            _log.info("ready: %s", where)
            notifier.ready(f"Serving {where}")
            await asyncio.wait((serving, stopping, failing), return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                failing.result()  # raises: the service manager shall start us anew
            notifier.stopping(settings.drain_s)
            batching.cancel()  # nobody waits for them, and no line of them is lost
            if not await gateway.drain(settings.drain_s):
                _log.warning(
                    "unfinished answers cut off after %g s: %d",
                    settings.drain_s,
                    gateway.num_requests,
                )
    finally:
        for task in (loading, stopping, failing, batching, *beside):
            task.cancel()
        await manager.close()
        service.http.should_exit = True
        await serving
        if service.store is not None:
            await service.store.close()
        if gateway.batches is not None:
            await asyncio.gather(batching, return_exceptions=True)
            await gateway.batches.close()
        await service.accounts.close()
        if gateway.usage is not None:
            await gateway.usage.close()
        alive.cancel()


def _work_beside(
    settings: ServeSettings, service: Service, read: Callable[[], ServeSettings]
) -> list[asyncio.Task[None]]:
    works = (
        ("memory pressure", service.watch.run()),
        ("certificates", _renew(service.certificates)),
        ("reload", _reload(settings, service, read)),
        ("power", read_power(service.gateway)),
        ("stats", service.gateway.metrics.stats.run()),
        ("accounts", service.accounts.run()),
    )
    return [asyncio.create_task(work, name=name) for name, work in works]


async def _answer_batches(gateway: Gateway) -> None:
    if gateway.batches is not None:
        await gateway.batches.run()


async def _reload(
    settings: ServeSettings, service: Service, read: Callable[[], ServeSettings]
) -> None:
    reloading = Reloading(
        settings,
        read=read,
        admission=service.accounts.admission,
        certificates=service.certificates,
        app=service.http.app,
    )
    await reloading.run(hold_hangups())


async def _renew(certificates: Certificates | None) -> None:
    if certificates is not None:
        await certificates.watch()
