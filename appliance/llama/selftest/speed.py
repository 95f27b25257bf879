"""How fast each CPU path is, timed in child processes that take turns. Knows no rule of the choice.

One child per path stays alive, and the paths take turns at every measurement: whatever else the machine does
disturbs both alike, and the best of several rounds is compared.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from appliance.llama.selftest.child import describe_end
from appliance.llama.selftest.paths import DECODE_STREAMS, PREFILL_ROWS, CpuPath, CpuPaths, PathTimes

TIMING = (sys.executable, "-m", "appliance.llama.timing")
_TIMEOUT_S = 300.0
_MEASUREMENTS = (*(("prefill", rows) for rows in PREFILL_ROWS), *(("decode", streams) for streams in DECODE_STREAMS))


@dataclass(frozen=True)
class Rounds:
    """How often everything is measured: after `least` rounds no new one begins once `budget_s` seconds have passed."""

    least: int = 3
    most: int = 12
    budget_s: float = 6.0


def time_paths(
    paths: CpuPaths, model: Path, threads: int, rounds: Rounds | None = None, command: Sequence[str] = TIMING
) -> CpuPaths:
    """`paths` with the times, on `model`, of each path that works; one that dies of it works no longer.

    `command` is the command line to which model, path and threads are appended.
    """
    with ExitStack() as stack:
        children = [
            stack.enter_context(_Child(path, [*command, str(model), _word(path), str(threads)]))
            for path in CpuPath
            if paths.of(path).works
        ]
        watchdog = threading.Timer(_TIMEOUT_S, _kill_all, [children])
        stack.callback(watchdog.cancel)
        watchdog.start()
        _take_turns(children, rounds or Rounds())
    for child in children:
        result = paths.of(child.path)
        if child.failure:
            result = replace(result, works=False, reason=f"{child.failure} while it was timed", times=None)
        else:
            result = replace(result, times=child.times())
        paths = paths.with_result(child.path, result)
    return paths


def _take_turns(children: Sequence[_Child], rounds: Rounds) -> None:
    deadline_s = time.monotonic() + rounds.budget_s
    for number in range(rounds.most):
        if number >= rounds.least and time.monotonic() > deadline_s:
            break
        for kind, count in _MEASUREMENTS:
            for child in children:
                child.measure(kind, count)


def _kill_all(children: Iterable[_Child]) -> None:
    for child in children:
        child.kill()


def _word(path: CpuPath) -> str:
    return "on" if path is CpuPath.EXTRA_BUFTS else "off"


@dataclass
class _Child:
    """One timing process: asked line by line, it answers with times. Dead, it measures nothing more."""

    path: CpuPath
    command: list[str]
    failure: str = ""
    _measured_ms: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))

    def __enter__(self) -> _Child:
        self._stderr = tempfile.TemporaryFile("w+")  # a pipe could fill up
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True
        )
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._stderr.close()

    def kill(self) -> None:
        self._process.kill()

    def measure(self, kind: str, count: int) -> None:
        if self.failure:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{kind} {count}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            self._measured_ms[kind, count] += json.loads(answer)
        else:
            self._note_failure()

    def times(self) -> PathTimes:
        best = {key: round(min(measured), 3) for key, measured in self._measured_ms.items()}
        return PathTimes(
            prefill_ms={rows: best["prefill", rows] for rows in PREFILL_ROWS},
            decode_ms={streams: best["decode", streams] for streams in DECODE_STREAMS},
            noise=round(max(statistics.median(ms) / min(ms) for ms in self._measured_ms.values()), 2),
        )

    def _note_failure(self) -> None:
        status = self._process.wait()
        self._stderr.seek(0)
        self.failure = describe_end(status, self._stderr.read())
