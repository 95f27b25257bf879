"""`appliance serve`: plans, starts the worker, listens, ends in good order. Knows no endpoint and no native code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import FrameType

import uvicorn

from appliance.api.app import create_app
from appliance.api.guards import LOOPBACK_HOSTS
from appliance.cli.cpu_path import cpu_paths, path_memory
from appliance.cli.gpu_fallback import GpuFallback
from appliance.cli.gpus import gpu_wish, measure_machine
from appliance.cli.notify import Notifier
from appliance.cli.path_fallback import PathFallback
from appliance.cli.prepare import PreparedModel, find_source, plan_model, prepare_model
from appliance.cli.pull_child import pull_in_child
from appliance.cli.tuned import how_computed, plan_on_best_path
from appliance.cli.tuning_run import tune_at_first_start
from appliance.errors import BadSettings
from appliance.fit.offload import GpuWish
from appliance.fit.plan import Plan
from appliance.fit.tuning import Tuning
from appliance.gateway.admission import Admission
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.pressure_watch import PressureWatch
from appliance.gateway.router import Router, ServedModel
from appliance.llama.selftest import CpuPath
from appliance.settings import ServeSettings, is_loopback
from appliance.settings.service_manager import service_manager
from appliance.worker.messages import WorkerConfig
from appliance.worker.supervisor import Supervisor

_log = logging.getLogger(__name__)
_MAX_PREFIX_SLOWDOWN = 0.03  # of one stream's decoding, by kept prefixes that nobody uses
_MANY_FILES = 65_536  # where there is no hard limit
_CLOSE_S = 2  # for connections to be closed, once no answer is in flight any more


def run(settings: ServeSettings) -> int:
    """Serves until SIGTERM or SIGINT; returns 0 after a stop in good order."""
    logging.basicConfig(
        level=settings.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    admission = Admission.from_file(settings.api_key_file) if settings.api_key_file else Admission()
    _allow_many_files()
    try:
        _raise_on_stop_signals()
        with _listening_socket(settings) as sock:
            model = _model(settings)
            supervisor, plan = _supervisor(settings, model)
            served = ServedModel(model.name, supervisor, int(time.time()), settings.alias)
            gateway = Gateway(Router([served]), admission)
            watch = _pressure_watch(gateway, plan, settings)
            server = _Server(_uvicorn_config(settings, gateway, plan.max_body_bytes))
            asyncio.run(_serve(settings, sock, supervisor, gateway, server, watch))
    except _StopSignal:
        _log.info("stopped before there was a model to be loaded")
    return 0


def _model(settings: ServeSettings) -> PreparedModel:
    """What a hub has of it is pulled first, where nothing of it is here."""
    if find_source(settings).must_be_pulled:
        pull_in_child(settings)
    return prepare_model(settings)


class _StopSignal(BaseException):
    """SIGTERM or SIGINT, while nothing runs yet that could be ended in a better way."""


def _raise_on_stop_signals() -> None:
    """Until the event loop sets its own handlers, a stop ends whatever is going on, so that children are ended too."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # asked once: the clean-up itself is not to be interrupted
        raise _StopSignal

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _allow_many_files() -> None:
    """Raises the limit on open files to what we may have: each connection takes one, and 1024 is a common default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:  # macOS has another limit below the one it tells
        _log.info("the limit on open files stays at %d: %s", soft, error)


def _supervisor(settings: ServeSettings, model: PreparedModel) -> tuple[Supervisor, Plan]:
    """Of a worker on the best CPU path, with its plan; should it die of that path, of one on the other."""
    machine = measure_machine(settings)
    device = machine.device
    if machine.gpu_finding is not None:
        _log.info("computing on the CPU: %s", machine.gpu_finding)
    paths = cpu_paths(settings, device)
    for path in CpuPath:
        if not paths.of(path).usable:
            _log.warning("%s are not used: %s (see `appliance doctor`)", path.label, paths.of(path).finding)
    tune_at_first_start(settings, model, device, paths)
    plan = plan_on_best_path(settings, model, device, paths)
    chosen = CpuPath.EXTRA_BUFTS if plan.use_extra_bufts else CpuPath.PLAIN
    _log.info("%s: %s Computed %s.", model.name, plan.reason, how_computed(plan))
    replanning = _Replanning(settings, model, chosen, gpu_wish(settings))
    by_path = PathFallback(chosen, paths, path_memory(settings), replanning.on_path)
    fallback = GpuFallback(plan.placement.offload.gpu_layers, replanning.wish, replanning.with_gpus, by_path)
    return Supervisor(worker_config(plan, settings), on_crash=fallback), plan


@dataclass
class _Replanning:
    """What another worker is told after a crash: on another CPU path, or with other layers on GPUs.

    The machine is measured anew, its GPUs too: what was free before may be taken, and a GPU may be gone.
    """

    settings: ServeSettings
    model: PreparedModel
    path: CpuPath
    wish: GpuWish

    def on_path(self, path: CpuPath) -> WorkerConfig:
        config = self._config(path, self.wish)
        self.path = path
        return config

    def with_gpus(self, wish: GpuWish) -> WorkerConfig:
        config = self._config(self.path, wish)
        self.wish = wish
        return config

    def _config(self, path: CpuPath, wish: GpuWish) -> WorkerConfig:
        device = measure_machine(replace(self.settings, gpu_layers=wish.gpu_layers)).device
        tuning = Tuning(use_extra_bufts=path is CpuPath.EXTRA_BUFTS)
        return worker_config(plan_model(self.settings, self.model, device, tuning, wish), self.settings)


def _pressure_watch(gateway: Gateway, plan: Plan, settings: ServeSettings) -> PressureWatch:
    """Of the plan's budget. The need counts the server's own processes too, so a worker's is a little less."""
    prefix_bytes = worker_config(plan, settings).prefix_host_bytes
    anonymous_bytes = plan.need.total_bytes - plan.need.weights_bytes - plan.need.parsing_bytes + prefix_bytes
    return PressureWatch(
        gateway.router, plan.budget, gateway.metrics, predicted_bytes=lambda _model_id: anonymous_bytes
    )


def worker_config(plan: Plan, settings: ServeSettings) -> WorkerConfig:
    """What the worker is told: the plan's sizes and the settings' bounds."""
    resident_cells, host_bytes = settings.resident_prefix_cells, settings.prefix_host_bytes
    return WorkerConfig(
        model_path=str(plan.model_path),
        ctx=plan.ctx,
        slots=plan.slots,
        kv_cells=plan.kv_cells,
        kv_type=plan.kv_type,
        threads=plan.threads,
        max_batch_rows=plan.max_batch_rows,
        max_waiting_tokens=settings.max_waiting,
        max_stall_ms=settings.max_stall_ms,
        resident_prefix_cells=plan.ctx if resident_cells is None else resident_cells,
        prefix_host_bytes=plan.spare_bytes_for_prefixes if host_bytes is None else host_bytes,
        prefix_disk_bytes=settings.prefix_disk_bytes,
        prefix_dir=str(settings.state_dir / "prefixes"),
        step_times_dir=str(settings.state_dir / "step-times"),
        max_prefix_slowdown=_MAX_PREFIX_SLOWDOWN if resident_cells is None else None,
        prefix_ttl_s=settings.prefix_ttl_s,
        use_extra_bufts=plan.use_extra_bufts,
        batch_threads=plan.batch_threads,
        ubatch_rows=plan.ubatch_rows,
        flash_attention=plan.flash_attention,
        use_mmap=plan.use_mmap,
        max_row_cells=plan.max_row_cells,
        offload=plan.placement.offload,
        log_level=settings.log_level,
    )


class _Server(uvicorn.Server):
    """uvicorn, with signals left to us: a stop first lets the answers in flight come to their end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(
    settings: ServeSettings,
    sock: socket.socket,
    supervisor: Supervisor,
    gateway: Gateway,
    server: _Server,
    watch: PressureWatch,
) -> None:
    """The HTTP side is up from the first moment, so that /health can tell how the load goes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _on_stop_signal, stop, gateway)
    serving = asyncio.create_task(server.serve(sockets=[sock]), name="http")
    stopping = asyncio.create_task(stop.wait(), name="stop signal")
    loading = asyncio.create_task(supervisor.start(), name="load")
    failing = asyncio.create_task(supervisor.failed(), name="failure")
    notifier = Notifier(service_manager())
    alive = asyncio.create_task(notifier.keep_alive(), name="watchdog")
    watching = asyncio.create_task(watch.run(), name="memory pressure")
    try:
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()  # raises why the model could not be loaded
            where = f"{', '.join(model.id for model in gateway.router.models)} at {_url(settings)}"
            _log.info("ready: %s", where)
            notifier.ready(f"Serving {where}")
            await asyncio.wait((serving, stopping, failing), return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                failing.result()  # raises: the service manager shall start us anew
            notifier.stopping(settings.drain_s)
            if not await gateway.drain(settings.drain_s):
                _log.warning("%d answers did not end within %g s", gateway.num_requests, settings.drain_s)
    finally:
        for task in (loading, stopping, failing, watching):
            task.cancel()
        await supervisor.stop()
        server.should_exit = True
        await serving
        alive.cancel()


def _on_stop_signal(stop: asyncio.Event, gateway: Gateway) -> None:
    if stop.is_set():
        # Asked twice: do not wait for anybody. The worker sees its channel close, and ends.
        _log.warning("stopping at once")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    _log.info("stopping: %d answers in flight may finish", gateway.num_requests)
    gateway.begin_drain()
    stop.set()


def _uvicorn_config(settings: ServeSettings, gateway: Gateway, max_body_bytes: int) -> uvicorn.Config:
    is_open = is_loopback(settings.host) and not gateway.admission.requires_key
    hosts = LOOPBACK_HOSTS | {settings.host.lower()} if is_open else None
    return uvicorn.Config(
        create_app(
            gateway,
            max_body_bytes=max_body_bytes,
            client_timeout_s=settings.client_timeout_s,
            allowed_hosts=hosts,
        ),
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=settings.log_level == "debug",
        server_header=False,
        timeout_graceful_shutdown=_CLOSE_S,
    )


def _listening_socket(settings: ServeSettings) -> socket.socket:
    """Bound before anything slow begins: a port that is taken is told at once."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        sock = socket.create_server(address[:2], family=family, backlog=1024)
        _drop_dead_peers(sock, settings.client_timeout_s)
        return sock
    except (OSError, UnicodeError) as error:  # the latter: a name that cannot be one
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadSettings(
            f"Cannot listen on {settings.host} port {settings.port}: {reason}. "
            "Stop what listens there, or choose another --port or --host."
        ) from error


def _drop_dead_peers(sock: socket.socket, timeout_s: float) -> None:
    """Has the kernel end connections, those `sock` will accept, whose peer acknowledges or takes nothing for so long.

    Otherwise what is still to be written would keep a connection open after the server has closed it.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * timeout_s))


def _url(settings: ServeSettings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}/v1"
