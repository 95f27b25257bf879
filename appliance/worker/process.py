"""One worker process, from its start to its end, and the socket to it.

Runs in the serving parent, on its event loop. Knows no requests and no restarts.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence

from appliance.time_limit import within
from appliance.worker.channel import AsyncChannel
from appliance.worker.config import WorkerConfig
from appliance.worker.crash import Crash
from appliance.worker.frames import (
    FromWorker,
    Load,
    LoadError,
    Ready,
    ToWorker,
    decode_from_worker,
    encode,
)


class WorkerProcess:
    """A process that has been started; whoever starts it calls `reap` and `close`."""

    def __init__(self, process: asyncio.subprocess.Process, channel: AsyncChannel) -> None:
        self._process = process
        self._channel = channel
        self._load_error: str | None = None  # what it reported of why it cannot load
        self._load_code = ""
        self._kill_reason: str | None = None

    @classmethod
    async def start(cls, command: Sequence[str], *, binds_threads: bool = True) -> WorkerProcess:
        """Appends the number of its socket to `command`.

        Raises `OSError` if the system has no room for another process.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                    env=None if binds_threads else _unbound(os.environ),
                )
            return cls(process, await AsyncChannel.open(ours))
        except OSError:
            ours.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def end_cause(self) -> str | None:
        """Why it ends, where we know better than its exit status: it reported an error
        that ends it, or we killed it.
        """
        return self._load_error if self._kill_reason is None else self._kill_reason

    @property
    def ends_by_itself(self) -> bool:
        """Not because we killed it."""
        return self._load_error is not None or self._kill_reason is None

    def send(self, message: ToWorker) -> None:
        """What cannot be delivered is noticed by `receive`."""
        self._channel.send(encode(message))

    async def receive(self) -> FromWorker:
        """Raises `ChannelClosed` at the end of the stream,
        and `msgspec.DecodeError`.
        """
        message = decode_from_worker(await self._channel.receive())
        if isinstance(message, LoadError):  # its last words, while it loads or at work
            self._load_error, self._load_code = message.error.message, message.error.code
        return message

    async def load(self, config: WorkerConfig, limit_s: float) -> Ready | None:
        """None: it cannot load the model, or took more than `limit_s` and was killed.

        Raises `ChannelClosed` and `msgspec.DecodeError` as `receive` does.
        """
        self.send(Load(config))
        try:
            answer = await within(limit_s, self.receive())
        except asyncio.TimeoutError:
            self.kill(f"the model did not load within {limit_s:.0f} s")
            return None
        if isinstance(answer, LoadError):
            return None
        assert isinstance(answer, Ready), answer
        return answer

    def kill(self, reason: str) -> None:
        self._kill_reason = reason
        if self._process.returncode is None:
            self._process.kill()

    async def reap(self, *, was_ready: bool, limit_s: float) -> Crash:
        """Waits for its end; one that does not exit within `limit_s` is killed."""
        try:
            status = await within(limit_s, self._process.wait())
        except asyncio.TimeoutError:
            self._process.kill()
            status = await self._process.wait()
        return Crash(status, was_ready, self._load_error, self._load_code)

    async def close(self) -> None:
        """Closes the socket."""
        await self._channel.close()


def _unbound(environment: Mapping[str, str]) -> dict[str, str]:
    """Without the default that this process itself has set for children
    (appliance/llama/__init__.py); another wish stays.
    """
    wish = environment.get("OMP_PROC_BIND", "close")
    return {**environment, "OMP_PROC_BIND": "false" if wish == "close" else wish}
