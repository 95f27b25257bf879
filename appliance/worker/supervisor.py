"""Keeps one worker process alive: starts it, watches it, restarts it, and ends its
requests when it dies.

Runs in the serving parent, on its event loop, and never calls native code. Knows no
HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

import msgspec

from appliance.errors import HelperLost, LoadFailed, ModelNotReady, ShuttingDown, WorkerLost
from appliance.protocol.events import AskResult, Delta, EmbedResult, Event, Message, Started
from appliance.protocol.health import Heartbeat, WorkerHealth, WorkerState
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.questions import Question
from appliance.protocol.relief import Pace, Relief
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest
from appliance.time_limit import within
from appliance.worker.channel import ChannelClosed
from appliance.worker.client import OnComputed, nothing_to_tell
from appliance.worker.config import WorkerConfig
from appliance.worker.crash import Crash, OnCrash
from appliance.worker.deaths import Deaths
from appliance.worker.frames import (
    AskQuestion,
    Cancel,
    Embed,
    Resume,
    StepEvents,
    Stop,
    Submit,
    Suspend,
    ToWorker,
)
from appliance.worker.in_flight import InFlight
from appliance.worker.patience import Patience
from appliance.worker.process import WorkerProcess
from appliance.worker.reading import Interrupted, Reading
from appliance.worker.second_try import tried_again_once
from appliance.worker.suspects import Sent
from appliance.worker.token_rate import TokenRate

ResultT = TypeVar("ResultT", AskResult, EmbedResult)
_Result = AskResult | EmbedResult
_log = logging.getLogger(__name__)
_RESTARTING = "the worker process was lost (%s): starting a new one in %.1f s"
WORKER = (sys.executable, "-m", "appliance.worker.child")


class Supervisor:
    """One worker, for as long as the server runs; implements
    `appliance.worker.client.Client`.

    `on_crash` is asked, in a thread, whenever a worker ended by itself, and may give
    the next one another config; a model that has never loaded is tried again only with
    one. `command` is the worker's command line; its socket's number is appended.
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
        self._in_flight = InFlight()
        self._deaths = Deaths(self._patience)
        self._interrupted = Interrupted()
        self._process: WorkerProcess | None = None
        self._serving: WorkerProcess | None = None  # the same, while it takes requests
        self._state = WorkerState.STARTING
        self._state_changed = asyncio.Condition()
        self._num_restarts = 0
        self._last_error: str | None = None  # of the last process that ended
        self._crash: Crash | None = None  # of the last process, if it ended by itself
        self._loads_anew = False  # with another plan: not by this supervisor
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
        await self._until(lambda state: state is not WorkerState.STARTING)
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
        if self._serving is not None:
            self._serving.send(Stop())
        elif self._process is not None:
            # it reads no message before, and has no answer to finish
            self._process.kill("stopped before it had loaded")
        try:
            await within(self._patience.stop_s, asyncio.shield(self._task))
        except asyncio.TimeoutError:
            if self._process is not None:
                self._process.kill("did not stop in time")
            await self._task

    async def failed(self) -> None:
        """Waits until no worker will run any more although nobody stopped it, and
        raises `WorkerLost` that says why; `HelperLost` where another plan may serve.
        """
        await self._until(lambda state: state is WorkerState.FAILED)
        kind = HelperLost if self._loads_anew else WorkerLost
        raise kind(f"The model is no longer served: {self._last_error}.")

    # --- requests ---------------------------------------------------------------------

    async def ask(self, question: Question) -> AskResult:
        return await self._only(AskQuestion(0, question), AskResult)

    async def embed(self, request: EmbedRequest | RerankRequest) -> EmbedResult:
        return await self._only(Embed(0, request), EmbedResult)

    async def generate(
        self, request: GenerateRequest, on_computed: OnComputed = nothing_to_tell
    ) -> AsyncGenerator[Event, None]:
        async with aclosing(self._tried(Submit(0, request), on_computed)) as events:
            async for event in events:
                assert not isinstance(event, _Result), event
                yield event

    async def resume(self, resume_id: str) -> AsyncGenerator[Event, None]:
        reading = self._interrupted.take(resume_id)
        async with aclosing(self._read(reading, Resume(reading.request_id))) as events:
            async for event in events:
                assert not isinstance(event, _Result), event
                yield event

    def forget(self, resume_id: str) -> None:
        if (reading := self._interrupted.discard(resume_id)) is not None:
            self._cancel(reading)

    async def _only(self, sent: Sent, expected: type[ResultT]) -> ResultT:
        async with aclosing(self._tried(sent, nothing_to_tell)) as events:
            result = await anext(events)
        assert isinstance(result, expected), result
        return result

    def _tried(self, sent: Sent, told: OnComputed) -> AsyncGenerator[Message, None]:
        return tried_again_once(lambda: self._attempt(sent, told))

    async def _attempt(self, sent: Sent, told: OnComputed) -> AsyncGenerator[Message, None]:
        """`sent` has no id yet: each attempt has one of its own."""
        async with self._deaths.turn(sent) as turn:
            process = await self._ready_process()
            request_id, mailbox = self._in_flight.open(told)
            resume_id = sent.request.resume_id if isinstance(sent, Submit) else ""
            reading = Reading(process, request_id, mailbox, resume_id)
            sent = msgspec.structs.replace(sent, request_id=request_id)
            async with aclosing(self._read(reading, sent)) as events:
                async for event in events:
                    if not isinstance(event, Started):
                        turn.end()
                    yield event

    async def _read(self, reading: Reading, message: ToWorker) -> AsyncGenerator[Message, None]:
        """All that the worker sends for one request from now on, up to the last; leaving
        early cancels it, or suspends it where it may be resumed.
        """
        try:
            self._deaths.take_up(message)
            self._send(reading, message)
            while not reading.is_ended:
                event = await reading.mailbox.get()
                yield event if isinstance(event, Delta) else reading.note(event)
        finally:
            if reading.may_be_resumed:
                self._interrupted.put(reading)
                self._send(reading, Suspend(reading.request_id))
            else:
                self._cancel(reading)

    def _cancel(self, reading: Reading) -> None:
        self._in_flight.close(reading.request_id)
        self._deaths.put_down(reading.request_id, has_ended=reading.is_ended)
        if not reading.is_ended:
            self._send(reading, Cancel(reading.request_id))

    def _send(self, reading: Reading, message: ToWorker) -> None:
        """Of a process that is gone, the mailbox holds the end already."""
        if reading.process is self._serving:
            self._serving.send(message)

    def relieve(self, relief: Relief | Pace) -> None:
        if self._serving is not None:
            self._serving.send(relief)

    async def _ready_process(self) -> WorkerProcess:
        """Waits through a restart, within reason."""
        waiting = (WorkerState.STARTING, WorkerState.RESTARTING)
        if self._state in waiting:
            with contextlib.suppress(asyncio.TimeoutError):
                await within(self._patience.ready_s, self._until(lambda now: now not in waiting))
        if self._stopping.is_set():
            raise ShuttingDown("The server is shutting down.")
        if self._state is not WorkerState.READY or self._serving is None:
            reason = self._last_error or "still loading"
            raise ModelNotReady(
                f"The model is not ready: its worker {self._state.in_words} ({reason})."
            )
        return self._serving

    def _end_requests(self) -> None:
        """Whatever has not ended by now will not be."""
        self._in_flight.end_all(
            lambda: (
                ShuttingDown("The server is shutting down.")
                if self._stopping.is_set()
                else WorkerLost(
                    f"The model's worker process was lost ({self._last_error}) and is being "
                    "restarted. Try again."
                )
            )
        )

    # --- processes, one after the other -----------------------------------------------

    async def _supervise(self) -> None:
        """Whatever happens, nobody is left waiting: what was not foreseen ends every
        request, and is reported.
        """
        try:
            await self._keep_running()
        except Exception as error:  # noqa: BLE001 - the last line of defence: requests must end
            _log.exception("the supervisor failed")
            self._last_error = f"the supervisor failed: {error}"
            self._end_requests()
            await self._set_state(WorkerState.FAILED)

    async def _keep_running(self) -> None:
        while not self._stopping.is_set():
            was_ready = await self._run_worker()
            if self._stopping.is_set():
                break
            has_new_config = await self._ask_for_remedy()
            if self._loads_anew or (self._info is None and not has_new_config):
                await self._set_state(WorkerState.FAILED)
                return
            pause_s = self._deaths.pause_s(was_ready=was_ready)
            self._num_restarts += 1
            if self._info is not None:
                await self._set_state(WorkerState.RESTARTING)
            _log.error(_RESTARTING, self._last_error, pause_s)
            with contextlib.suppress(asyncio.TimeoutError):
                await within(pause_s, self._stopping.wait())
        await self._set_state(WorkerState.STOPPED)

    async def _ask_for_remedy(self) -> bool:
        """Takes over what `on_crash` answers; True if that is another config."""
        if self._on_crash is None or self._crash is None:
            return False
        remedy = await asyncio.to_thread(self._on_crash, self._crash)
        if remedy is None:
            return False
        self._last_error = f"{self._last_error}; {remedy.reason}"
        self._loads_anew = remedy.loads_anew
        if remedy.config is None:
            return False
        self._config = remedy.config
        self._deaths.mended()
        return True

    async def _run_worker(self) -> bool:
        """One process from start to end; True if it ever was ready.

        Leaves no request unanswered.
        """
        self._crash = None
        try:
            process = self._process = await WorkerProcess.start(
                self._command, binds_threads=self._config.binds_threads
            )
        except OSError as error:  # no descriptors, no memory: later there may be
            self._last_error = f"it could not be started: {error}"
            return False
        was_ready = False
        try:
            if self._stopping.is_set():
                process.kill("stopped before it had loaded")
            was_ready = await self._load(process)
            if was_ready:
                await self._read_events(process)
        except ChannelClosed:
            _log.debug("the worker's channel is closed")
        except msgspec.DecodeError as error:
            process.kill(f"it sent an invalid message: {error}")
        finally:
            self._serving = None
            if was_ready and not self._stopping.is_set():
                await self._set_state(WorkerState.RESTARTING)
            await self._reap(process, was_ready=was_ready)
            await process.close()
            self._deaths.note(self._crash)
            self._end_requests()
        return was_ready

    async def _load(self, process: WorkerProcess) -> bool:
        ready = await process.load(self._config, self._patience.load_s)
        if ready is None:
            return False
        on_gpus = "".join(
            f", {name}: {count >> 20} MiB" for name, count in ready.info.gpu_bytes.items()
        )
        _log.info(
            "worker %d loaded %s in %.1f s%s", process.pid, ready.info.name, ready.load_s, on_gpus
        )
        self._info, self._serving = ready.info, process
        self._last_frame_s = time.monotonic()
        await self._set_state(WorkerState.READY)
        return True

    async def _read_events(self, process: WorkerProcess) -> None:
        watchdog = asyncio.create_task(self._watch(process), name="watchdog")
        try:
            while True:
                message = await process.receive()
                self._last_frame_s = time.monotonic()
                if isinstance(message, StepEvents):
                    for event in message.events:
                        if not self._in_flight.deliver(event):
                            process.send(Cancel(event.request_id))
                elif isinstance(message, Heartbeat):
                    self._heartbeat = message
                    self._token_rate.observe(self._last_frame_s, message.num_sampled_tokens)
        finally:
            watchdog.cancel()

    async def _watch(self, process: WorkerProcess) -> None:
        """Kills a worker that is silent, or whose native code does not return."""
        while True:
            silence_s = time.monotonic() - self._last_frame_s
            if reason := self._patience.why_given_up(silence_s, self._heartbeat):
                process.kill(reason)
            await asyncio.sleep(min(1.0, self._patience.silence_s / 4))

    async def _reap(self, process: WorkerProcess, *, was_ready: bool) -> None:
        crash = await process.reap(was_ready=was_ready, limit_s=self._patience.stop_s)
        if not self._stopping.is_set():
            self._last_error = process.end_cause or str(crash)
        self._crash = crash if process.ends_by_itself else None
        self._process = None
        self._heartbeat = None
        self._token_rate = TokenRate()

    async def _until(self, is_so: Callable[[WorkerState], bool]) -> None:
        async with self._state_changed:
            await self._state_changed.wait_for(lambda: is_so(self._state))

    async def _set_state(self, state: WorkerState) -> None:
        async with self._state_changed:
            self._state = state
            self._state_changed.notify_all()
