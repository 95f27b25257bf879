"""The asking end of the processes that render one template.

Knows no Jinja, and no messages.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from signal import SIGPROF
from typing import Any

from appliance.text.rendering.frames import REPLY, REQUEST, Outcome, RendererGone, read_exactly

RENDERER = (sys.executable, "-m", "appliance.text.rendering.child")


@dataclass(frozen=True)
class Reply:
    outcome: Outcome
    text: str


class Renderers:
    """As many processes as are asked at once, each started when it is first needed.

    May be called on any thread. `compiled` is the outcome of compiling; unless it is
    `DONE`, there is nothing to render.
    """

    def __init__(self, source: str, special: dict[str, str], cpu_s: float) -> None:
        self._program = {"source": source, "special": special}
        self._compile_cpu_s = cpu_s
        self._lock = threading.Lock()
        self._idle: list[subprocess.Popen[bytes]] = []  # a call takes one out, and puts it back
        weakref.finalize(self, _end_all, self._idle)
        self.compiled = self._start()

    def render(self, values: dict[str, Any], now: str, cpu_s: float) -> Reply:
        """`values` must be JSON. Raises what `json.dumps` raises."""
        payload = json.dumps({"values": values, "now": now}).encode()
        process = self._take()
        if process is None:
            started = self._start()
            process = self._take()
            if process is None:
                return started
        try:
            reply = _ask(process, payload, cpu_s)
        except RendererGone:
            return Reply(Outcome.CRASHED, _end(process))
        self._put_back(process)
        return reply

    def _take(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _put_back(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._idle.append(process)

    def _start(self) -> Reply:
        """Adds one to those that are idle, if it could compile the template."""
        process = subprocess.Popen(RENDERER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            reply = _ask(process, json.dumps(self._program).encode(), self._compile_cpu_s)
        except RendererGone:
            how = _end(process)
            is_slow = process.returncode == -SIGPROF
            return Reply(Outcome.OUT_OF_TIME if is_slow else Outcome.CRASHED, how)
        if reply.outcome is Outcome.DONE:
            self._put_back(process)
        else:
            _end(process)
        return reply


def _ask(process: subprocess.Popen[bytes], payload: bytes, cpu_s: float) -> Reply:
    """Raises `RendererGone`."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(REQUEST.pack(len(payload), cpu_s))
        process.stdin.write(payload)
        process.stdin.flush()
    except BrokenPipeError as error:
        raise RendererGone from error
    outcome, num_bytes = REPLY.unpack(read_exactly(process.stdout, REPLY.size))
    text = read_exactly(process.stdout, num_bytes).decode("utf-8", "surrogatepass")
    return Reply(Outcome(outcome), text)


def _end(process: subprocess.Popen[bytes]) -> str:
    """Returns how it had ended, if it had by itself."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    code = process.wait()
    return f"exit status {code}" if code >= 0 else f"signal {-code}"


def _end_all(processes: list[subprocess.Popen[bytes]]) -> None:
    while processes:
        _end(processes.pop())
