"""Requests that were in progress when a worker died, and so may be why: whoever was twice,
and never ended well in between, is refused for a while.

Knows no process.
"""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import msgspec

from appliance.errors import RequestAtFault
from appliance.protocol.requests import GenerateRequest
from appliance.worker.crash import Crash
from appliance.worker.frames import AskQuestion, Embed, Submit, encode

Sent = Submit | AskQuestion | Embed

REFUSED_FOR_S = 3600.0
_MAX_DEATHS = 2
_MAX_SUSPECTS = 1024  # the latest
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}
_FAULTS |= {signal.SIGTRAP, signal.SIGSYS}


@dataclass(frozen=True)
class _Suspicion:
    num_deaths: int
    last_s: float


class Suspects:
    """`clock` is in s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._suspicions: dict[bytes, _Suspicion] = {}  # by digest, the latest last

    def check(self, sent: Sent) -> None:
        """Raises `RequestAtFault`. After a while a request gets another chance, which is
        its last one.
        """
        suspicion = self._suspicions.get(_digest(sent)) if self._suspicions else None
        if suspicion is None or suspicion.num_deaths < _MAX_DEATHS:
            return
        left_s = suspicion.last_s + REFUSED_FOR_S - self._clock()
        if left_s > 0:
            raise RequestAtFault(
                f"This very request was in progress {suspicion.num_deaths} times when the model's "
                f"worker process died, and is refused for {_in_words(left_s)} more. Change its "
                "prompt; and please report it, with the server's log."
            )

    def has(self, sent: Sent) -> bool:
        """Whether a worker died while it was in progress."""
        return bool(self._suspicions) and _digest(sent) in self._suspicions

    def note_death(self, sent: Iterable[Sent]) -> None:
        for digest in {_digest(one) for one in sent}:  # `n` answers to one prompt are one request
            known = self._suspicions.pop(digest, _Suspicion(0, 0.0))
            self._suspicions[digest] = replace(
                known, num_deaths=known.num_deaths + 1, last_s=self._clock()
            )
        while len(self._suspicions) > _MAX_SUSPECTS:
            del self._suspicions[next(iter(self._suspicions))]

    def note_end(self, sent: Sent) -> None:
        """It ended, and its worker lives."""
        if self._suspicions:
            self._suspicions.pop(_digest(sent), None)

    def forget(self) -> None:
        """It was not the requests: something else was found and mended."""
        self._suspicions.clear()


def _in_words(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} minutes" if minutes > 1 else f"{max(1, round(seconds))} s"


def may_be_a_requests_fault(crash: Crash | None) -> bool:
    """Not where somebody else ended the process. None: it hung, and was killed for it."""
    return crash is None or crash.status > 0 or -crash.status in _FAULTS


def _digest(sent: Sent) -> bytes:
    """The same for what asks the same of native code: prompt and form. How tokens are
    chosen, how many and for whom is no part of it, so that changing these does not help.
    """
    if isinstance(sent, Submit):
        asked = sent.request
        form = GenerateRequest(
            prompt=asked.prompt, grammar=asked.grammar, tool_calls=asked.tool_calls
        )
        sent = Submit(0, form)
    else:
        sent = msgspec.structs.replace(sent, request_id=0)
    return hashlib.blake2b(encode(sent), digest_size=16).digest()
