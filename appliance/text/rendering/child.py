"""A process that has compiled one chat template, and renders it in a copy of itself each time.

Knows no limits but those it is given, and nothing of the server.

Usage: python -m appliance.text.rendering.child, with `frames` on its standard input and
output; it ends when its input does. A copy (fork) is made ahead of the request, begins
with nothing that an earlier rendering left behind, and may be killed in the midst of
anything: the kernel does so when its processor time is used up.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import sys
from typing import IO, NoReturn

from appliance.text.rendering.environment import CompiledTemplate, RenderedTooLong, TemplateRefused
from appliance.text.rendering.frames import (
    MAX_MEMORY_BYTES,
    REPLY,
    REQUEST,
    Outcome,
    RendererGone,
    read_exactly,
)

_UTF8 = ("utf-8", "surrogatepass")  # a client may send half a character, and a template show it


def main() -> int:
    _bound_memory()
    try:
        payload, cpu_s = _receive(sys.stdin.buffer)
        _bound_time(cpu_s)
        template = _compile(payload)
        _bound_time(0)
        if template is None:
            return 0
        gc.collect()
        gc.freeze()  # a copy's collector would else touch, and so copy, everything here
        while True:
            copy = _Copy(template)  # waits for what is to be rendered
            payload, cpu_s = _receive(sys.stdin.buffer)
            _reply(sys.stdout.buffer, *copy.render(payload, cpu_s))
            copy.end()
            del payload
    except (RendererGone, BrokenPipeError):
        return 0


def _bound_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    set_before, _ = resource.getrlimit(resource.RLIMIT_AS)
    is_free = set_before == resource.RLIM_INFINITY
    most = MAX_MEMORY_BYTES if is_free else min(MAX_MEMORY_BYTES, set_before)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _bound_time(cpu_s: float) -> None:
    """The kernel ends this process once it has computed so long, whatever it is at; 0: never."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)


def _receive(pipe: IO[bytes]) -> tuple[bytes, float]:
    num_bytes, cpu_s = REQUEST.unpack(read_exactly(pipe, REQUEST.size))
    return read_exactly(pipe, num_bytes), cpu_s


def _reply(pipe: IO[bytes], outcome: Outcome, data: bytes) -> None:
    pipe.write(REPLY.pack(outcome, len(data)))
    pipe.write(data)
    pipe.flush()


def _compile(payload: bytes) -> CompiledTemplate | None:
    """Replies with the variables, or why there is no template."""
    try:
        template = CompiledTemplate(**json.loads(payload))
    except TemplateRefused as error:
        _reply(sys.stdout.buffer, Outcome.REFUSED, str(error).encode(*_UTF8))
    except MemoryError:
        _reply(sys.stdout.buffer, Outcome.OUT_OF_MEMORY, b"")
    else:
        _reply(sys.stdout.buffer, Outcome.DONE, json.dumps(sorted(template.variables)).encode())
        return template
    return None


class _Copy:
    """This process once more, for one rendering."""

    def __init__(self, template: CompiledTemplate) -> None:
        task_end, our_task_end = os.pipe()
        our_reply_end, reply_end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(our_task_end)
            os.close(our_reply_end)
            _render_and_exit(template, task_end, reply_end)
        os.close(task_end)
        os.close(reply_end)
        self._tasks = os.fdopen(our_task_end, "wb")
        self._replies = os.fdopen(our_reply_end, "rb")

    def render(self, payload: bytes, cpu_s: float) -> tuple[Outcome, bytes]:
        try:
            self._tasks.write(REQUEST.pack(len(payload), cpu_s))
            self._tasks.write(payload)
            self._tasks.flush()
            outcome, num_bytes = REPLY.unpack(read_exactly(self._replies, REPLY.size))
            return Outcome(outcome), read_exactly(self._replies, num_bytes)
        except (RendererGone, BrokenPipeError):
            code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._pid = 0
        if code == -signal.SIGPROF:
            return Outcome.OUT_OF_TIME, b""
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return Outcome.CRASHED, how.encode()

    def end(self) -> None:
        """Waits for its end, which has begun."""
        with contextlib.suppress(BrokenPipeError):
            self._tasks.close()
        self._replies.close()
        if self._pid:
            os.waitpid(self._pid, 0)


def _render_and_exit(template: CompiledTemplate, task_end: int, reply_end: int) -> NoReturn:
    """In the copy. It must never return to the caller's loop."""
    try:
        os.close(sys.stdin.fileno())
        os.close(sys.stdout.fileno())
        payload, cpu_s = _receive(os.fdopen(task_end, "rb"))
        _bound_time(cpu_s)
        _reply(os.fdopen(reply_end, "wb"), *_rendered(template, payload))
    finally:
        os._exit(1)  # only what was replied counts


def _rendered(template: CompiledTemplate, payload: bytes) -> tuple[Outcome, bytes]:
    try:
        return Outcome.DONE, template.render(payload).encode(*_UTF8)
    except TemplateRefused as error:
        return Outcome.REFUSED, str(error).encode(*_UTF8)
    except RenderedTooLong:
        return Outcome.TOO_LONG, b""
    except MemoryError:
        return Outcome.OUT_OF_MEMORY, b""


if __name__ == "__main__":
    sys.exit(main())
