"""A process that has compiled one chat template, and renders it in a copy of itself each time.

Knows no limits but those it is given, and nothing of the server.

Usage: python -m appliance.text.rendering.child, with `frames` on its standard input and
output; it ends when its input does. A copy (fork) takes about a millisecond, begins
with nothing that an earlier rendering left behind, and may be killed in the midst of
anything: the kernel does so when its processor time is used up.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
from typing import Any, NoReturn

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
        payload, cpu_s = _receive()
        _bound_time(cpu_s)
        template = _compile(payload)
        _bound_time(0)
        if template is None:
            return 0
        gc.collect()
        gc.freeze()  # a copy's collector would else touch, and so copy, everything here
        while True:
            payload, cpu_s = _receive()
            _reply(*_render_in_copy(template, payload, cpu_s))
            del payload
    except (RendererGone, BrokenPipeError):
        return 0


def _bound_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MAX_MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _bound_time(cpu_s: float) -> None:
    """The kernel ends this process once it has computed so long, whatever it is at; 0: never."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)


def _receive() -> tuple[bytes, float]:
    num_bytes, cpu_s = REQUEST.unpack(read_exactly(sys.stdin.buffer, REQUEST.size))
    return read_exactly(sys.stdin.buffer, num_bytes), cpu_s


def _reply(outcome: Outcome, data: bytes) -> None:
    sys.stdout.buffer.write(REPLY.pack(outcome, len(data)))
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _compile(payload: bytes) -> CompiledTemplate | None:
    """Replies with the variables, or why there is no template."""
    try:
        template = CompiledTemplate(**json.loads(payload))
    except TemplateRefused as error:
        _reply(Outcome.REFUSED, str(error).encode(*_UTF8))
    except MemoryError:
        _reply(Outcome.OUT_OF_MEMORY, b"")
    else:
        _reply(Outcome.DONE, json.dumps(sorted(template.variables)).encode())
        return template
    return None


def _render_in_copy(
    template: CompiledTemplate, payload: bytes, cpu_s: float
) -> tuple[Outcome, bytes]:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _bound_time(cpu_s)
        _render_and_exit(template, payload, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        data = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == -signal.SIGPROF:
        return Outcome.OUT_OF_TIME, b""
    if code < 0:
        return Outcome.CRASHED, signal.Signals(-code).name.encode()
    if code not in set(Outcome):
        return Outcome.CRASHED, f"exit status {code}".encode()
    return Outcome(code), data


def _render_and_exit(template: CompiledTemplate, payload: bytes, write_end: int) -> NoReturn:
    """In the copy. It must never return to the caller's loop."""
    code = 1
    try:
        os.close(sys.stdin.fileno())
        os.close(sys.stdout.fileno())
        outcome, data = _rendered(template, payload)
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(data)
        code = outcome
    except MemoryError:
        code = Outcome.OUT_OF_MEMORY
    finally:
        os._exit(code)


def _rendered(template: CompiledTemplate, payload: bytes) -> tuple[Outcome, bytes]:
    values: dict[str, Any] = json.loads(payload)
    try:
        return Outcome.DONE, template.render(**values).encode(*_UTF8)
    except TemplateRefused as error:
        return Outcome.REFUSED, str(error).encode(*_UTF8)
    except RenderedTooLong:
        return Outcome.TOO_LONG, b""


if __name__ == "__main__":
    sys.exit(main())
