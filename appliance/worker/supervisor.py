"""Keeps one worker process alive: starts it, watches it, restarts it, and ends its
requests when it dies.

Runs in the serving parent, on its event loop, and never calls native code. Knows no
HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from appliance.errors import (
    ApplianceError,
    LoadFailed,
    ModelNotReady,
    ShuttingDown,
    WorkerLost,
    from_record,
)
from appliance.protocol.events import AskResult, EmbedResult, Event, Failed, Finished, Message
from appliance.protocol.health import Heartbeat, WorkerHealth, WorkerState
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.questions import Question
from appliance.protocol.relief import Relief
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest
from appliance.worker.channel import AsyncChannel, ChannelClosed
from appliance.worker.config import WorkerConfig
from appliance.worker.crash import Crash, OnCrash
from appliance.worker.frames import (
    Ask,
    Cancel,
    Embed,
    Load,
    LoadError,
    Ready,
    Relieve,
    StepEvents,
    Stop,
    Submit,
    decode_from_worker,
    encode,
)
from appliance.worker.mailbox import Mailbox
from appliance.worker.token_rate import TokenRate

_log = logging.getLogger(__name__)
WORKER = (sys.executable, "-m", "appliance.worker.child")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for what, in seconds."""

    load_s: float = 1800.0  # a large model from a slow card
    silence_s: float = 30.0  # the worker's heart beats every second
    step_s: float = 300.0  # a step is cut to about a second; this long means native code hangs
    ready_s: float = 60.0  # how long a request waits for a worker that is starting again
    stop_s: float = 5.0  # from `Stop` to SIGKILL
    first_backoff_s: float = 0.2
    longest_backoff_s: float = 30.0
    healthy_s: float = 60.0  # after so long without a crash, the backoff starts anew


class Supervisor:
    """One worker, for as long as the server runs; implements `appliance.worker.client.Client`.

    `on_crash` is asked, in a thread, whenever a worker ended by itself, and may give
    the next one another config; a model that has never loaded is tried again only with
    one. `command` is the worker's command line, to which the number of its socket is
    appended.
    """

    def __init__(
        self,
        config: WorkerConfig,
        patience: Patience | None = None,
        on_crash: OnCrash | None = None,
        command: Sequence[str] = WORKER,
    ) -> None:
        self._config = config
        self._patience = patience or Patience()
        self._on_crash = on_crash
        self._command = command
        self._ids = itertools.count(1)
        self._mailboxes: dict[int, Mailbox] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._channel: AsyncChannel | None = None
        self._state = WorkerState.STARTING
        self._state_changed = asyncio.Condition()
        self._num_restarts = 0
        self._last_error: str | None = None  # of the last process that ended
        # of the present one's end, where we know better than its exit status
        self._cause: str | None = None
        self._load_error: str | None = None  # what the present one said of why it cannot load
        self._crash: Crash | None = None  # how the last process ended
        self._info: ModelInfo | None = None
        self._heartbeat: Heartbeat | None = None
        self._token_rate = TokenRate()
        self._last_frame_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def info(self) -> ModelInfo | None:
        return self._info

    def health(self) -> WorkerHealth:
        ready = self._state is WorkerState.READY
        return WorkerHealth(
            state=self._state,
            pid=self._process.pid if self._process is not None else None,
            num_restarts=self._num_restarts,
            last_error=self._last_error,
            heartbeat=self._heartbeat if ready else None,
            heartbeat_age_s=time.monotonic() - self._last_frame_s if ready else None,
            tokens_per_s=self._token_rate.per_s if ready else None,
        )

    async def start(self) -> None:
        """Loads the model.

        Raises `LoadFailed` (or what the worker reports) if that cannot be done at all.
        """
        self._task = asyncio.create_task(self._supervise(), name="supervisor")
        async with self._state_changed:
            await self._state_changed.wait_for(lambda: self._state is not WorkerState.STARTING)
        if self._state is not WorkerState.READY:
            await self._task
            raise LoadFailed(self._last_error or "the worker did not start")

    async def stop(self) -> None:
        """Ends the worker; requests still in flight get `ShuttingDown`.

        Leaves no process behind.
        """
        self._stopping.set()
        if self._task is None:
            return
        if self._channel is not None:
            self._channel.send(encode(Stop()))
        else:
            # it reads no message before, and has no answer to finish
            self._kill("stopped before it had loaded")
        try:
            await asyncio.wait_for(asyncio.shield(self._task), self._patience.stop_s)
        except asyncio.TimeoutError:
            self._kill("did not stop in time")
            await self._task

    async def failed(self) -> None:
        """Waits until no worker will run any more although nobody stopped it, and
        raises `WorkerLost` that says why.
        """
        async with self._state_changed:
            await self._state_changed.wait_for(lambda: self._state is WorkerState.FAILED)
        raise WorkerLost(f"The model is no longer served: {self._last_error}.")

    async def ask(self, question: Question) -> AskResult:
        async with aclosing(self._answers(lambda request_id: Ask(request_id, question))) as answers:
            answer = await anext(answers)
        assert isinstance(answer, AskResult), answer
        return answer

    async def embed(self, request: EmbedRequest | RerankRequest) -> EmbedResult:
        async with aclosing(
            self._answers(lambda request_id: Embed(request_id, request))
        ) as answers:
            answer = await anext(answers)
        assert isinstance(answer, EmbedResult), answer
        return answer

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        async with aclosing(
            self._answers(lambda request_id: Submit(request_id, request))
        ) as events:
            async for event in events:
                assert not isinstance(event, AskResult | EmbedResult), event
                yield event

    async def _answers(
        self, message: Callable[[int], Submit | Ask | Embed]
    ) -> AsyncGenerator[Message, None]:
        """All that the worker says to it, up to the last; leaving early cancels it."""
        channel = await self._ready_channel()
        request_id = next(self._ids)
        mailbox = self._mailboxes[request_id] = Mailbox()
        ended = False
        try:
            channel.send(encode(message(request_id)))
            while not ended:
                event = await mailbox.get()
                ended = isinstance(
                    event, Finished | Failed | AskResult | EmbedResult | ApplianceError
                )
                if isinstance(event, ApplianceError):
                    raise event
                if isinstance(event, Failed):
                    raise from_record(event.error)
                yield event
        finally:
            self._mailboxes.pop(request_id, None)
            if not ended and channel is self._channel:
                channel.send(encode(Cancel(request_id)))

    def relieve(self, relief: Relief) -> None:
        if self._channel is not None:
            self._channel.send(encode(Relieve(relief)))

    async def _ready_channel(self) -> AsyncChannel:
        """Waits through a restart, within reason."""
        waiting = (WorkerState.STARTING, WorkerState.RESTARTING)
        async with self._state_changed:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(
                    self._state_changed.wait_for(lambda: self._state not in waiting),
                    self._patience.ready_s,
                )
        if self._stopping.is_set():
            raise ShuttingDown("The server is shutting down.")
        if self._state is not WorkerState.READY or self._channel is None:
            raise ModelNotReady(
                f"The model's worker is {self._state.value}: {self._last_error or 'still loading'}."
            )
        return self._channel

    async def _supervise(self) -> None:
        """Whatever happens, nobody is left waiting: what was not foreseen ends every
        request, and is told.
        """
        try:
            await self._keep_running()
        except Exception as error:  # noqa: BLE001 - the last line of defence: requests must end
            _log.exception("the supervisor failed")
            self._last_error = f"the supervisor failed: {error}"
            self._end_requests()
            await self._set_state(WorkerState.FAILED)

    async def _keep_running(self) -> None:
        backoff_s = self._patience.first_backoff_s
        while not self._stopping.is_set():
            started_s = time.monotonic()
            was_ready = await self._run_worker()
            if self._stopping.is_set():
                break
            has_new_config = await self._ask_for_remedy()
            if self._info is None and not has_new_config:
                await self._set_state(WorkerState.FAILED)
                return
            if was_ready and time.monotonic() - started_s > self._patience.healthy_s:
                backoff_s = self._patience.first_backoff_s
            self._num_restarts += 1
            if self._info is not None:
                await self._set_state(WorkerState.RESTARTING)
            _log.error("worker lost: %s; starting it again in %.1f s", self._last_error, backoff_s)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff_s)
            backoff_s = min(backoff_s * 2, self._patience.longest_backoff_s)
        await self._set_state(WorkerState.STOPPED)

    async def _ask_for_remedy(self) -> bool:
        """Takes over what `on_crash` answers; True if that is another config."""
        if (
            self._on_crash is None
            or self._crash is None
            or (self._cause is not None and self._load_error is None)
        ):
            return False  # nobody to ask, or it did not end by itself: we ended it
        remedy = await asyncio.to_thread(self._on_crash, self._crash)
        if remedy is None:
            return False
        self._last_error = f"{self._last_error}; {remedy.reason}"
        if remedy.config is None:
            return False
        self._config = remedy.config
        return True

    async def _run_worker(self) -> bool:
        """One process from start to end; True if it ever was ready.

        Leaves no request unanswered.
        """
        self._cause = self._load_error = self._crash = None
        try:
            channel = await self._spawn()
        except OSError as error:  # no descriptors, no memory: later there may be
            self._last_error = f"it could not be started: {error}"
            return False
        was_ready = False
        try:
            was_ready = await self._load(channel)
            if was_ready:
                await self._read_events(channel)
        except ChannelClosed:
            _log.debug("the worker's channel is closed")
        except msgspec.DecodeError as error:
            self._kill(f"it sent what is no message: {error}")
        finally:
            self._channel = None
            if was_ready and not self._stopping.is_set():
                await self._set_state(WorkerState.RESTARTING)
            await self._reap(was_ready=was_ready)
            await channel.close()
            self._end_requests()
        return was_ready

    async def _spawn(self) -> AsyncChannel:
        """Starts a process; raises `OSError` if the system has no room for one."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                )
            if self._stopping.is_set():
                self._kill("stopped before it had loaded")
            return await AsyncChannel.open(ours)
        except OSError:
            ours.close()
            raise

    async def _load(self, channel: AsyncChannel) -> bool:
        channel.send(encode(Load(self._config)))
        try:
            answer = decode_from_worker(
                await asyncio.wait_for(channel.receive(), self._patience.load_s)
            )
        except asyncio.TimeoutError:
            self._kill(f"the model did not load within {self._patience.load_s:.0f} s")
            return False
        if isinstance(answer, LoadError):
            self._cause = self._load_error = answer.error.message
            return False
        assert isinstance(answer, Ready), answer
        on_gpus = "".join(
            f", {name}: {count >> 20} MiB" for name, count in answer.info.gpu_bytes.items()
        )
        _log.info(
            "worker %d loaded %s in %.1f s%s", self._pid, answer.info.name, answer.load_s, on_gpus
        )
        self._info, self._channel = answer.info, channel
        self._last_frame_s = time.monotonic()
        await self._set_state(WorkerState.READY)
        return True

    async def _read_events(self, channel: AsyncChannel) -> None:
        watchdog = asyncio.create_task(self._watch(), name="watchdog")
        try:
            while True:
                message = decode_from_worker(await channel.receive())
                self._last_frame_s = time.monotonic()
                if isinstance(message, StepEvents):
                    for event in message.events:
                        self._deliver(channel, event)
                elif isinstance(message, Heartbeat):
                    self._heartbeat = message
                    self._token_rate.observe(self._last_frame_s, message.num_sampled_tokens)
        finally:
            watchdog.cancel()

    def _deliver(self, channel: AsyncChannel, event: Message) -> None:
        mailbox = self._mailboxes.get(event.request_id)
        # None: cancelled here while the event was on its way.
        if mailbox is not None and not mailbox.put(event):
            del self._mailboxes[event.request_id]
            channel.send(encode(Cancel(event.request_id)))

    async def _watch(self) -> None:
        """Kills a worker that no longer answers, or whose native code does not return."""
        while True:
            silence_s = time.monotonic() - self._last_frame_s
            step_age_s = self._heartbeat.step_age_s if self._heartbeat is not None else 0.0
            if silence_s > self._patience.silence_s:
                self._kill(f"it was silent for {silence_s:.0f} s")
            elif step_age_s > self._patience.step_s:
                self._kill(f"one step took more than {self._patience.step_s:.0f} s")
            await asyncio.sleep(min(1.0, self._patience.silence_s / 4))

    @property
    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _kill(self, why: str) -> None:
        self._cause = why
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _reap(self, *, was_ready: bool) -> None:
        """Waits for the process; one that closed its channel without exiting is killed."""
        assert self._process is not None
        try:
            status = await asyncio.wait_for(self._process.wait(), self._patience.stop_s)
        except asyncio.TimeoutError:
            self._process.kill()
            status = await self._process.wait()
        crash = Crash(status, was_ready, self._load_error)
        if not self._stopping.is_set():
            self._last_error = self._cause or str(crash)
        self._crash = crash
        self._process = None
        self._heartbeat = None
        self._token_rate = TokenRate()

    def _end_requests(self) -> None:
        for mailbox in self._mailboxes.values():
            if self._stopping.is_set():
                mailbox.put(ShuttingDown("The server is shutting down."))
            else:
                mailbox.put(
                    WorkerLost(
                        f"The model's worker process was lost ({self._last_error}). It is being "
                        "restarted: try again."
                    )
                )
        self._mailboxes.clear()

    async def _set_state(self, state: WorkerState) -> None:
        async with self._state_changed:
            self._state = state
            self._state_changed.notify_all()
