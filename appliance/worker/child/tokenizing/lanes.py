"""Prepares requests and answers questions about tokens, beside everything else.

Knows no engine and no model.

Three lanes, each a thread and first come, first served: one for requests of up to
`SHORT_BYTES`, one for longer ones, and one for those of either whose chat template took
more than `QUICK_CPU_S`, which begin again there with `MAX_CPU_S`. So a long prompt
delays no message and no short one, and a template that goes on for ever only its own.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from appliance.errors import ApplianceError
from appliance.protocol.events import AskResult, Failed
from appliance.protocol.questions import AskSlot
from appliance.protocol.requests import GenerateRequest
from appliance.text.chat_template import MAX_CPU_S, QUICK_CPU_S, TemplateTooSlow
from appliance.worker.child.tokenizing.prompts import Prompts
from appliance.worker.frames import AskQuestion, Embed, Submit

_log = logging.getLogger(__name__)

SHORT_BYTES = 32 << 10  # of the message: a few milliseconds of tokenizing at most
_SHORT_GRAMMAR_CHARS = 2 << 10


PreparedT = TypeVar("PreparedT")
_PreparedT_co = TypeVar("_PreparedT_co", covariant=True)


class Preparing(Protocol[_PreparedT_co]):
    """Makes what a request computes with; called on all lanes' threads at once."""

    def prepare(self, message: Submit | Embed, *, template_cpu_s: float) -> _PreparedT_co:
        """Raises an `ApplianceError` for a request that is refused at once, and
        `TemplateTooSlow` where rendering took more than `template_cpu_s`.
        """


class Tokenizing(Generic[PreparedT]):
    """Takes messages and hands each over as prepared or answered, unless it was
    cancelled meanwhile.

    `hand_over` is called on a lane's thread and must not wait.
    """

    def __init__(
        self,
        prompts: Prompts,
        preparing: Preparing[PreparedT],
        hand_over: Callable[[PreparedT | AskResult | Failed], None],
    ) -> None:
        self._prompts = prompts
        self._preparing = preparing
        self._hand_over = hand_over
        self._wanted: set[int] = set()  # ids between `submit` and their handing over or cancelling
        self._lock = threading.Lock()
        self._short = _Lane(QUICK_CPU_S)
        self._long = _Lane(QUICK_CPU_S)
        self._slow = _Lane(MAX_CPU_S)

    def submit(self, message: Submit | AskQuestion | Embed, num_bytes: int) -> None:
        """`num_bytes` is the message's size as it came.

        A grammar may take as long as the longest prompt.
        """
        with self._lock:
            self._wanted.add(message.request_id)
        is_long = num_bytes > SHORT_BYTES or (
            isinstance(message, Submit) and _takes_long(message.request)
        )
        lane = self._long if is_long else self._short
        lane.waiting.put(message)

    def cancel(self, request_id: int) -> None:
        """From now on it is not handed over;
        one that was before is the receiver's to cancel.
        """
        with self._lock:
            self._wanted.discard(request_id)

    def age_s(self) -> float:
        """How long the oldest tokenization
        in progress has been running; 0 if there is none.
        """
        started_s = [
            since
            for lane in (self._short, self._long, self._slow)
            if (since := lane.started_s) is not None
        ]
        return time.monotonic() - min(started_s) if started_s else 0.0

    def run_short(self) -> None:
        """The thread of the short lane; never returns."""
        self._run(self._short)

    def run_long(self) -> None:
        """The thread of the long lane; never returns."""
        self._run(self._long)

    def run_slow(self) -> None:
        """The thread of the lane for slow templates; never returns."""
        self._run(self._slow)

    def _run(self, lane: _Lane) -> None:
        while True:
            message = lane.waiting.get()
            if message.request_id not in self._wanted:
                continue
            lane.started_s = time.monotonic()
            prepared = self._safely(message, lane)
            lane.started_s = None
            if prepared is None:
                self._slow.waiting.put(message)
                continue
            with self._lock:  # a Cancel that is read now is put behind what is handed over
                if message.request_id in self._wanted:
                    self._wanted.remove(message.request_id)
                    self._hand_over(prepared)

    def _safely(
        self, message: Submit | AskQuestion | Embed, lane: _Lane
    ) -> PreparedT | AskResult | Failed | None:
        """Templates and grammars are programs that others wrote: what they break is one
        request, not the worker. None: the lane has no time for this one.
        """
        cpu_s = lane.template_cpu_s
        try:
            if isinstance(message, AskQuestion):
                assert not isinstance(message.question, AskSlot), "the loop's own"
                return self._prompts.answer(
                    message.request_id, message.question, template_cpu_s=cpu_s
                )
            return self._preparing.prepare(message, template_cpu_s=cpu_s)
        except TemplateTooSlow as error:
            return Failed(message.request_id, error.record()) if lane is self._slow else None
        except ApplianceError as error:
            return Failed(message.request_id, error.record())
        except Exception:  # noqa: BLE001 - whatever it is, the other requests go on
            _log.exception("request %d could not be prepared", message.request_id)
            internal = ApplianceError(
                "The request could not be prepared because of an internal error. The server's "
                "log has the details."
            )
            return Failed(message.request_id, internal.record())


def _takes_long(request: GenerateRequest) -> bool:
    return request.grammar is not None and len(request.grammar.source) > _SHORT_GRAMMAR_CHARS


class _Lane:
    """Messages that wait for one thread, and since when that thread has been at one."""

    def __init__(self, template_cpu_s: float) -> None:
        self.template_cpu_s = template_cpu_s
        self.waiting: queue.SimpleQueue[Submit | AskQuestion | Embed] = queue.SimpleQueue()
        self.started_s: float | None = None
