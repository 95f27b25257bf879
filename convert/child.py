"""Both ends of talking to a child, a process of its own that native code may end.

`ask` is the parent's end, `serve` the child's; the programs are
`convert/native/*_child.py`. Does not know what is asked.

The child reads one JSON request from standard input and writes JSON lines to standard
output: any number of events, then `{"answer": ...}` or `{"refused": "<who does not take
what, and why>"}`. It ends when nobody reads it any more.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from convert.errors import BadInput, ConvertError

# Threads that compute together wait for each other: where all cores are used, they do
# best on a core each. With fewer threads, two children would be bound to the same
# cores.
_OPENMP = {"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"}
_SHOWN_CHARS = 500  # of the child's last words


class Refused(BadInput):
    """The child refused what it was given, and says why."""

    kind = "refused"


class ChildDied(ConvertError):
    """Native code took the child down."""

    kind = "child_died"


def ask(
    module: str,
    request: object,
    on_event: Callable[[Any], None] = lambda _event: None,
    num_threads: int = 1,
) -> Any:
    """The answer of `python -m module` to `request`; each event is handed to `on_event`
    as it comes.

    `num_threads`: with how many the child computes.

    Raises `Refused`, `ChildDied` if a signal ended it, `ConvertError` if it failed
    otherwise. No child is left behind, however this ends.
    """
    with tempfile.TemporaryFile() as stderr, _start(module, stderr, num_threads) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            _send(child.stdin, request)
            answer = _listen(child.stdout, on_event)
            status = child.wait()
        finally:
            child.kill()
        if answer is None or status != 0:
            stderr.seek(0)
            raise _failure(module, status, stderr.read().decode(errors="replace"))
    if "refused" in answer:
        raise Refused(answer["refused"])
    return answer["answer"]


def _start(module: str, stderr: IO[bytes], num_threads: int) -> subprocess.Popen[bytes]:
    openmp = _OPENMP if num_threads >= (os.cpu_count() or 1) else {}
    return subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=Path(__file__).parents[1],  # -m looks there first, and finds this very package
        env={**openmp, **os.environ, "GGML_NO_BACKTRACE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
    )


def _send(stdin: IO[bytes], request: object) -> None:
    try:
        with stdin:
            stdin.write(json.dumps(request).encode())
    except BrokenPipeError:  # it is dead already: its exit status says more
        pass


def _listen(stdout: IO[bytes], on_event: Callable[[Any], None]) -> dict[str, Any] | None:
    """Hands events on; the last line, if it is an answer or a refusal."""
    for line in stdout:
        message: dict[str, Any] = json.loads(line)
        if "answer" in message or "refused" in message:
            return message
        on_event(message)
    return None


def _failure(module: str, status: int, stderr: str) -> ConvertError:
    reason = stderr.strip()[-_SHOWN_CHARS:] or "no error message"
    if status < 0:
        return ChildDied(f"llama.cpp was terminated by {signal.Signals(-status).name}: {reason}")
    return ConvertError(f"{module} failed: {reason}")


def serve(answer: Callable[[Any, Callable[[object], None]], object]) -> None:
    """The child's side: reads the request, hands `answer` it and a function that sends
    events, and sends what it returns, or the message of the `Refused` it raises. Ends
    the process.
    """
    request = json.loads(sys.stdin.buffer.read())
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # native code that prints would garble our lines

    def send(message: object) -> None:
        lines.write(json.dumps(message) + "\n")
        lines.flush()

    try:
        send({"answer": answer(request, send)})
    except Refused as refused:
        send({"refused": str(refused)})
    os._exit(0)  # the operating system frees models faster than their destructors
