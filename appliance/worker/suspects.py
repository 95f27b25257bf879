"""Requests that were in progress when a worker died, and so may be why: whoever was twice,
and never ended well in between, is refused for a while.

Knows no process.
"""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import msgspec

from appliance.errors import RequestAtFault
from appliance.worker.crash import Crash
from appliance.worker.frames import AskQuestion, Embed, Submit, encode

Sent = Submit | AskQuestion | Embed

REFUSED_FOR_S = 300.0
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
                f"worker process died, and is refused for {max(1, round(left_s))} s more. Change "
                "it; and please report it, with the server's log."
            )

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


def may_be_a_requests_fault(crash: Crash | None) -> bool:
    """Not where somebody else ended the process. None: it hung, and was killed for it."""
    return crash is None or crash.status > 0 or -crash.status in _FAULTS


def _digest(sent: Sent) -> bytes:
    """The same for what differs in its ids and its seed only."""
    if isinstance(sent, Submit):
        sampling = replace(sent.request.sampling, seed=None)
        request = msgspec.structs.replace(sent.request, sampling=sampling, resume_id="")
        sent = Submit(0, request)
    else:
        sent = msgspec.structs.replace(sent, request_id=0)
    return hashlib.blake2b(encode(sent), digest_size=16).digest()
