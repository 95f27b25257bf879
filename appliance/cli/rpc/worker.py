"""`appliance rpc-worker`: keeps llama.cpp's RPC server running in a child, and tells it how
much memory this machine has for a model.

Nothing native runs in this process.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.cli.rpc.tensor_cache import TensorCache
from appliance.cli.stop_signals import StopSignal, raise_on_stop_signals
from appliance.errors import BadSettings, SetupError
from appliance.fit.machine.device import measure_device
from appliance.fit.machine.rpc_helpers import endpoint_of
from appliance.fit.machine.rpc_protocol import RpcError
from appliance.fit.plan.budget import readable
from appliance.llama.checks.child import describe_end
from appliance.llama.checks.rpc import NOT_BUILT, RPC_SERVER, has_rpc
from appliance.logs import log_to_stderr
from appliance.settings import ServeSettings

_log = logging.getLogger(__name__)
_EVERY_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_HEALTHY_S = 60.0


def run(settings: ServeSettings, address: str, *, cache_bytes: int, is_insecure: bool) -> int:
    """Until SIGTERM or SIGINT; returns 0 then.

    Raises `BadSettings` for an address that may be public, and `SetupError` where it cannot
    listen or llama.cpp has no RPC backend.
    """
    log_to_stderr(settings.log_level, settings.log_format)
    if not has_rpc():
        raise SetupError(f"{NOT_BUILT[0].upper()}{NOT_BUILT[1:]}.")
    host, port = _listening_on(address, is_insecure=is_insecure)
    _check_free(host, port)
    folder = settings.state_dir / "rpc-cache"
    cache = TensorCache(folder, cache_bytes) if cache_bytes else None
    command = [*RPC_SERVER, host, str(port), str(settings.threads or measure_device().threads)]
    command += [str(folder)] if cache is not None else []
    try:
        raise_on_stop_signals()
        _keep_running(command, settings.ram, cache)
    except StopSignal:
        _log.info("stopped")
    return 0


def _listening_on(address: str, *, is_insecure: bool) -> tuple[str, int]:
    """(IPv4 address, port). Raises `BadSettings`."""
    try:
        host, port = endpoint_of(address)
    except RpcError as error:
        raise BadSettings(f"--listen {address}: the address {error}.") from error
    found = ipaddress.IPv4Address(host)
    if is_insecure or not (found.is_global or found.is_unspecified or found.is_multicast):
        return host, port
    what = "may be reached by everyone" if found.is_unspecified else "is a public address"
    raise BadSettings(
        f"--listen {address}: {host} {what}, and the RPC protocol asks for no key and encrypts "
        "nothing: whoever reaches the port can read the model and the prompts, and crash this "
        "process or worse. Listen on 127.0.0.1 and come through `ssh -L`, or on the address of a "
        "private network such as WireGuard's; --insecure does it all the same."
    )


def _check_free(host: str, port: int) -> None:
    """Raises `SetupError`: llama.cpp's server does not say why it cannot listen."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SetupError(f"Cannot listen on {host}:{port}: {error.strerror}.") from error


def _keep_running(command: Sequence[str], ram: int | None, cache: TensorCache | None) -> None:
    """For ever. Raises `SetupError` where the first child does not come to listen."""
    pause_s, was_listening = _FIRST_PAUSE_S, False
    while True:
        if cache is not None:
            _prepare(cache)
        began_s = time.monotonic()
        server = _Server.start(command, ram)
        try:
            server.follow(cache)
        finally:
            server.end()
        was_listening |= server.is_listening
        end = describe_end(server.process.returncode, server.last_words)
        if not was_listening:
            raise SetupError(f"The helper cannot listen: llama.cpp's RPC server {end}.")
        pause_s = (
            _FIRST_PAUSE_S
            if time.monotonic() - began_s > _HEALTHY_S
            else min(2 * pause_s, _LONGEST_PAUSE_S)
        )
        _log.error("the RPC server %s: starting a new one in %.0f s", end, pause_s)
        time.sleep(pause_s)


def _prepare(cache: TensorCache) -> None:
    """Raises `SetupError`."""
    try:
        cache.prepare()
    except OSError as error:
        raise SetupError(
            f"The cache of weights {cache.folder} cannot be used ({error.strerror}). Mend that, or "
            "use --cache-bytes 0."
        ) from error


@dataclass
class _Server:
    """The child, and what it has said."""

    process: subprocess.Popen[str]
    ram: int | None
    is_listening: bool = False
    is_idle: bool = True
    last_words: str = ""

    @classmethod
    def start(cls, command: Sequence[str], ram: int | None) -> _Server:
        server = cls(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
                env={**os.environ, "GGML_NO_BACKTRACE": "1", "OMP_PROC_BIND": "false"},
            ),
            ram,
        )
        for work in (server._read_output, server._read_errors):
            threading.Thread(target=work, daemon=True).start()
        return server

    def follow(self, cache: TensorCache | None) -> None:
        """Until it ends."""
        assert self.process.stdin is not None
        while True:
            free, total = _memory(self.ram)
            with contextlib.suppress(OSError):  # it has ended
                self.process.stdin.write(f"{free} {total}\n")
                self.process.stdin.flush()
            if cache is not None:
                cache.settle(idle=self.is_idle)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_EVERY_S)
                return

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            match line.split(maxsplit=1):
                case ["listening", where]:
                    self.is_listening = True
                    free, total = _memory(self.ram)
                    _log.info(
                        "lending this machine on %s: %s of %s are free for a model; there is no "
                        "key and no encryption, so keep the port to yourself",
                        where.strip(),
                        readable(free),
                        readable(total),
                    )
                case ["Accepted", _]:
                    self.is_idle = False
                    _log.info("a server has connected")
                case ["Client", _]:
                    self.is_idle = True
                    _log.info("the server has gone")
                case _:
                    _log.debug("%s", line.rstrip())

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.last_words = (self.last_words + line)[-2000:]
            _log.debug("%s", line.rstrip())


def _memory(ram: int | None) -> tuple[int, int]:
    """(free for a model, all) in bytes: as a plan would count them here."""
    device = measure_device()
    free, total = device.free_bytes, device.ram_total_bytes
    return (free, total) if ram is None else (min(free, ram), min(total, ram))
