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
from collections.abc import Callable

from appliance.cli.catalog.auto import with_auto
from appliance.cli.listening import allow_many_files, base_url, listening_sockets
from appliance.cli.network import unix_socket
from appliance.cli.network.certificates import Certificates
from appliance.cli.network.hangups import hold_hangups
from appliance.cli.network.reloading import Reloading
from appliance.cli.network.scarcity import ScarcityHandler
from appliance.cli.service.notify import Notifier
from appliance.cli.service.service import Service, make_service
from appliance.cli.stop_signals import StopSignal, on_stop_signal, raise_on_stop_signals
from appliance.cli.traces import traces_to
from appliance.cli.usage.recording import read_power
from appliance.errors import BadSettings
from appliance.gateway.accounts.accounts import Accounts
from appliance.gateway.lifecycle import Gateway
from appliance.launch.names import named_models
from appliance.logs import log_to_stderr
from appliance.loopback import is_local, socket_path
from appliance.settings import ServeSettings
from appliance.settings.service_manager import service_manager

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
    check_closed(settings, accounts)
    certificates = Certificates(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
    allow_many_files()
    try:
        raise_on_stop_signals()
        with contextlib.ExitStack() as stack:
            listening = [stack.enter_context(sock) for sock in listening_sockets(settings)]
            if (path := socket_path(settings.host)) is not None:
                stack.callback(unix_socket.removal(path))
            tracers = stack.enter_context(traces_to(settings.otlp_endpoint))
            models = named_models(with_auto(settings, _log.info))
            service = make_service(settings, models, accounts, certificates)
            for tracer in tracers:
                service.gateway.metrics.requests.add_listener(tracer)
            asyncio.run(serve(settings, listening, service, read))
    except StopSignal:
        _log.info("stopped before a model was loaded")
    return 0


def check_closed(settings: ServeSettings, accounts: Accounts) -> None:
    if is_local(settings.host) or accounts.admission.requires_key or settings.insecure:
        return
    raise BadSettings(
        f"--host {settings.host} can be reached from other machines, but no API key is required. "
        "Make one with 'appliance keys create NAME' (of the same --state-dir), add --api-key-file "
        "FILE, or --insecure if that is what you want, or listen on 127.0.0.1."
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
    loop.set_exception_handler(ScarcityHandler())
    gateway, manager = service.gateway, service.manager
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_stop_signal, stop, gateway, settings.drain_delay_s)
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
            if socket_path(settings.host) is None:
                _log.info("the page, for a browser: %s", base_url(settings).removesuffix("v1"))
            notifier.ready(f"Serving {where}")
            await asyncio.wait((serving, stopping, failing), return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                failing.result()  # raises: the service manager shall start us anew
            notifier.stopping(settings.drain_delay_s + settings.drain_s)
            batching.cancel()  # nobody waits for them, and no line of them is lost
            if stop.is_set() and settings.drain_delay_s > 0:
                await asyncio.sleep(settings.drain_delay_s)
                _log.info("waiting for answers in progress (%d)", gateway.num_requests)
            if not await gateway.drain(settings.drain_s):
                _log.warning(
                    "unfinished answers cut off after %g s: %d",
                    settings.drain_s,
                    gateway.num_requests,
                )
    finally:
        gateway.begin_drain()
        for task in (loading, stopping, failing, batching, *beside):
            task.cancel()
        await manager.close()
        service.http.should_exit = True
        await serving
        await asyncio.gather(batching, return_exceptions=True)
        await service.close()
        alive.cancel()


def _work_beside(
    settings: ServeSettings, service: Service, read: Callable[[], ServeSettings]
) -> list[asyncio.Task[None]]:
    works = (
        ("memory pressure", service.watch.run()),
        ("heat", service.thermal.run()),
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
