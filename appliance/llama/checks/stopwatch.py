"""Timing children, one for each way to have a model in memory, used in turns.

Calls nothing native; knows no choice.

A child that dies or hangs costs an `Untimed`, and is started anew when it is needed
again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np

from appliance.llama.checks.child import describe_end
from appliance.llama.checks.correctness import why_wrong
from appliance.llama.checks.timing_messages import (
    RoundTimes,
    TimedContext,
    TimedModel,
    TimingFailure,
    TimingRequest,
    TimingResult,
    Workload,
)

__all__ = ["RoundTimes", "Stopwatch", "TimedContext", "TimedModel", "Untimed", "Workload"]

TIMING = (sys.executable, "-m", "appliance.llama.timing")
_MAX_CHILDREN = 2  # at once: two are compared, and each has the model in memory


class Untimed(Exception):
    """Why something cannot be timed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Stopwatch:
    """Times rounds on a model; a context manager that ends its children.

    The first model and context that are timed are the reference: what any other first
    computes must be the same. `command` is the command line to which the model and a
    folder are appended.
    """

    def __init__(self, command: Sequence[str] = TIMING) -> None:
        self._command = command
        self._children: dict[TimedModel, _Child] = {}
        self._checked: set[tuple[TimedModel, TimedContext]] = set()
        self._stack = ExitStack()

    def __enter__(self) -> Stopwatch:
        self._folder = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="appliance-timing-"))
        )
        return self

    def __exit__(self, *_exception: object) -> None:
        for child in self._children.values():
            child.end()
        self._stack.close()

    def round(
        self, model: TimedModel, context: TimedContext, work: Workload, limit_s: float
    ) -> RoundTimes:
        """The times of one round.

        Raises `Untimed`, also where there is no answer within `limit_s` seconds.
        """
        child = self._child(model)
        if (model, context) in self._checked:
            return self._time(child, TimingRequest(context, work), limit_s)
        found = self._folder / "log_probs.npy"
        times = self._time(child, TimingRequest(context, work, str(found)), limit_s)
        self._check(found)
        self._checked.add((model, context))
        return times

    def _check(self, found: Path) -> None:
        reference = self._folder / "reference.npy"
        if not reference.exists():
            found.rename(reference)
            found = reference
        reason = why_wrong(np.load(found), np.load(reference))
        if reason:
            raise Untimed(reason)

    def _child(self, model: TimedModel) -> _Child:
        """The latest last; the oldest makes room, before the new one takes any."""
        child = self._children.pop(model, None)
        if child is None:
            while len(self._children) >= _MAX_CHILDREN:
                self._children.pop(next(iter(self._children))).end()
            described = msgspec.json.encode(model).decode()
            child = _Child([*self._command, described, str(self._folder)])
        self._children[model] = child
        return child

    def _time(self, child: _Child, request: TimingRequest, limit_s: float) -> RoundTimes:
        try:
            return child.time(request, limit_s)
        except Untimed:
            if child.has_ended:
                self._children = {
                    model: other for model, other in self._children.items() if other is not child
                }
                child.end()
            raise


class _Child:
    """One timing process.

    Its standard error goes to a file, for a pipe could fill up.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True
        )
        self._hung = threading.Event()

    def time(self, request: TimingRequest, limit_s: float) -> RoundTimes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watchdog = threading.Timer(limit_s, self._kill_hung)
        watchdog.start()
        try:
            self._process.stdin.write(msgspec.json.encode(request).decode() + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watchdog.cancel()
        if not line:
            status = self._process.wait()
            raise Untimed(
                f"took more than {limit_s:g} s"
                if self._hung.is_set()
                else self._describe_end(status)
            )
        result: TimingResult = msgspec.json.decode(line, type=TimingResult)
        if isinstance(result, TimingFailure):
            raise Untimed(result.message)
        return result

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._stderr.close()

    def _kill_hung(self) -> None:
        self._hung.set()
        self._process.kill()

    def _describe_end(self, status: int) -> str:
        self._stderr.seek(0)
        return describe_end(status, self._stderr.read())
