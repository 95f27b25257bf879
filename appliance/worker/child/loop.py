"""The loop of a worker: threads, channel and the order
of messages, whatever the model computes.

Knows no model, no engine and no llama.cpp.

Six threads. The reader takes messages and waits for nothing else. Two tokenizers
prepare short and long requests, so that a long one delays nobody. The main thread
computes: one step, one message. The sender writes the messages while the next step is
computed. The heart queues a `Heartbeat` every second, whatever the others do. When the
parent goes away, its end of the socket closes, and the loop ends.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from appliance.protocol.events import AskResult, Failed, Message
from appliance.protocol.health import Heartbeat
from appliance.protocol.questions import AskSlot
from appliance.protocol.relief import Pace, Relief
from appliance.worker.channel import BlockingChannel, ChannelClosed
from appliance.worker.child.resting import Resting
from appliance.worker.child.tokenizing.lanes import Preparing, Tokenizing
from appliance.worker.child.tokenizing.prompts import Prompts
from appliance.worker.child.vital import start_vital
from appliance.worker.frames import (
    AskQuestion,
    Cancel,
    Embed,
    Ready,
    Resume,
    StepEvents,
    Stop,
    Submit,
    Suspend,
    ToWorker,
    decode_to_worker,
    encode,
)

_log = logging.getLogger(__name__)
_HEARTBEAT_S = 1.0
_MAX_FLUSH_S = 1.0  # for what is still to be sent when the worker stops
_IDLE_S = 0.5  # after so long without a request, idle work is done

_ForComputing = Cancel | Suspend | Resume | Relief | Pace | Stop | AskQuestion
PreparedT = TypeVar("PreparedT")
_PreparedT_contra = TypeVar("_PreparedT_contra", contravariant=True)


class Computing(Protocol[_PreparedT_contra]):
    """What the loop drives: requests that are prepared go in, their events come out.

    Called on the main thread only, but for `heartbeat`.
    """

    @property
    def has_work(self) -> bool:
        """Whether there is a step to compute."""

    def submit(self, prepared: _PreparedT_contra) -> list[Message]:
        """Takes a request or refuses it; returns what is to be sent at once."""

    def cancel(self, request_id: int) -> None:
        """Unknown ids are ignored."""

    def suspend(self, request_id: int) -> None:
        """Nothing is computed for it until `resume`; unknown ids are ignored."""

    def resume(self, request_id: int) -> None:
        """Unknown ids are ignored."""

    def relieve(self, relief: Relief) -> None:
        """What to do without from now on."""

    def pace(self, share: float) -> float:
        """Uses this share of the machine's power from now on, as far as that is not done
        by waiting between steps; returns the share of time in which steps may compute.
        """

    def ask_slot(self, request_id: int, question: AskSlot) -> Message:
        """What is asked of a slot; `Failed` where that is refused."""

    def step(self) -> list[Message]:
        """Computes one step; returns everything that it brings."""

    def work_while_idle(self) -> bool:
        """Does one small piece of work
        that a pause is good for; False if there is none.
        """

    def prepare_to_stop(self) -> None:
        """Keeps what the next process wants to know. Nothing is called after this."""

    def heartbeat(self, *, step_age_s: float, tokenize_age_s: float) -> Heartbeat:
        """Called on any thread, also while a step is computed."""


class WorkerLoop(Generic[PreparedT]):
    """One loaded model, from `Ready` to the end of the process."""

    def __init__(
        self,
        *,
        channel: BlockingChannel,
        computing: Computing[PreparedT],
        preparing: Preparing[PreparedT],
        prompts: Prompts,
        prepare_thread: Callable[[], None] = lambda: None,
        tokenizer_stack_bytes: int = 0,
    ) -> None:
        """`prepare_thread` is called first by each thread that computes no steps;
        `tokenizer_stack_bytes` 0: the system's size.
        """
        self._channel = channel
        self._computing = computing
        self._prepare_thread = prepare_thread
        self._tokenizer_stack_bytes = tokenizer_stack_bytes
        self._tokenizing = Tokenizing(prompts, preparing, self._take_prepared)
        self._inbox: queue.SimpleQueue[PreparedT | _ForComputing] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[StepEvents | Heartbeat | Ready | None] = queue.SimpleQueue()
        self._sender: threading.Thread | None = None
        self._step_started_s: float | None = None
        self._resting = Resting(time.monotonic)

    def start(self, ready: Ready) -> None:
        """Starts all threads, and sends `ready` once they run.

        Raises `LoadFailed` where the system refuses one; nothing is sent then.
        """
        self._outbox.put(ready)  # before the first heartbeat
        stack_bytes = self._tokenizer_stack_bytes
        self._start("short tokenizer", self._tokenizing.run_short, stack_bytes)
        self._start("long tokenizer", self._tokenizing.run_long, stack_bytes)
        self._start("slow tokenizer", self._tokenizing.run_slow, stack_bytes)
        self._start("reader", self._read)
        self._start("heart", self._beat)
        self._sender = self._start("sender", self._write)

    def run(self) -> None:
        """Until `Stop`, or until the parent goes away. `start` comes first."""
        while self._take_messages():
            self._step()
        self._outbox.put(None)
        assert self._sender is not None, "it has been started"
        self._sender.join(_MAX_FLUSH_S)

    def _start(self, name: str, work: Callable[[], None], stack_bytes: int = 0) -> threading.Thread:
        return start_vital(name, work, prepare=self._prepare_thread, stack_bytes=stack_bytes)

    # --- the main thread --------------------------------------------------------------

    def _step(self) -> None:
        self._step_started_s = started_s = time.monotonic()
        events = self._computing.step()
        self._step_started_s = None
        self._send(events)
        self._resting.note_step(time.monotonic() - started_s)

    def _take_messages(self) -> bool:
        """Handles what has come in, waiting for something if there is nothing to
        compute; False means stop.
        """
        computing = self._computing
        while not (computing.has_work and self._inbox.empty() and self._resting.is_over):
            message = self._next_message()
            if message is None:
                break
            if isinstance(message, Stop):
                computing.prepare_to_stop()
                return False
            if isinstance(message, Cancel):
                computing.cancel(message.request_id)
            elif isinstance(message, Suspend):
                computing.suspend(message.request_id)
            elif isinstance(message, Resume):
                computing.resume(message.request_id)
            elif isinstance(message, Relief):
                computing.relieve(message)
            elif isinstance(message, Pace):
                self._resting.share = computing.pace(message.share)
            elif isinstance(message, AskQuestion):
                assert isinstance(message.question, AskSlot), "others are the tokenizers'"
                self._send([computing.ask_slot(message.request_id, message.question)])
            else:
                self._send(computing.submit(message))
        return True

    def _next_message(self) -> PreparedT | _ForComputing | None:
        """Waits for one; a pause is used for idle work, one piece at a time. None if
        there is none by when the next step may be computed.
        """
        if self._computing.has_work:
            return self._resting.wait(self._inbox)
        while not self._computing.has_work:
            try:
                return self._inbox.get(timeout=_IDLE_S)
            except queue.Empty:
                if not self._computing.work_while_idle():
                    break
        return self._inbox.get()

    # --- the other threads ------------------------------------------------------------

    def _take_prepared(self, prepared: PreparedT | AskResult | Failed) -> None:
        """On a tokenizer's thread:
        what asks for no computing has its answer at once.
        """
        if isinstance(prepared, AskResult | Failed):
            self._send([prepared])
        else:
            self._inbox.put(prepared)

    def _send(self, events: list[Message]) -> None:
        if events:
            self._outbox.put(StepEvents(events))

    def _write(self) -> None:
        """One message after the other, in order;
        encoded here too, beside the next step.
        """
        try:
            while (message := self._outbox.get()) is not None:
                self._channel.send(encode(message))
        except ChannelClosed:
            _log.info("the parent process is gone")
            self._inbox.put(Stop())

    def _read(self) -> None:
        try:
            while True:
                data = self._channel.receive()
                message = decode_to_worker(data)
                if isinstance(message, Submit | AskQuestion | Embed) and not _is_slots(message):
                    self._tokenizing.submit(message, len(data))
                    continue
                if isinstance(message, Cancel):
                    self._tokenizing.cancel(message.request_id)
                self._inbox.put(_expected(message))
        except ChannelClosed:
            self._inbox.put(Stop())

    def _beat(self) -> None:
        while True:
            started_s = self._step_started_s
            step_age_s = 0.0 if started_s is None else time.monotonic() - started_s
            beat = self._computing.heartbeat(
                step_age_s=step_age_s, tokenize_age_s=self._tokenizing.age_s()
            )
            self._outbox.put(msgspec.structs.replace(beat, busy_s=self._resting.busy_s))
            time.sleep(_HEARTBEAT_S)


def _is_slots(message: Submit | AskQuestion | Embed) -> bool:
    return isinstance(message, AskQuestion) and isinstance(message.question, AskSlot)


def _expected(message: ToWorker) -> _ForComputing:
    assert isinstance(message, _ForComputing), message
    return message
