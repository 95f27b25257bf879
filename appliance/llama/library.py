"""llama.cpp's shared library in this process: started once, its log routed to ours.

Knows no model.

Import this only in a child process: native code may take its process down.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import sys
from collections import deque
from collections.abc import Callable

import llama_cpp
from llama_cpp._ggml import libggml  # the binding does not offer the abort callback

from appliance.llama.buffers import Buffers

_log = logging.getLogger(__name__)

# ggml's log levels (ggml.h, enum ggml_log_level); 5 continues the line before.
_LEVELS = {
    1: logging.DEBUG,
    2: logging.DEBUG,
    3: logging.WARNING,
    4: logging.ERROR,
    5: logging.DEBUG,
}
# llama.cpp warns of a context beyond the model's own; ours holds several sequences,
# each kept within it.
# It quotes what a file says, which may be megabytes: too long to read, and to search.
MAX_LINE_CHARS = 1000
_EXPECTED = "possible training context overflow"
_AbortCallback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_SOURCES = "llama.cpp/"  # in the paths of its files, wherever it was built
_last_errors: deque[str] = deque(maxlen=8)
_abort_callbacks: list[object] = []  # C calls the last one: none may be freed
buffers = Buffers()  # of everything loaded in this process


def readable_line(text: bytes) -> str:
    """A line of llama.cpp's log, cut off where it is too long."""
    line = text[: 4 * MAX_LINE_CHARS].decode("utf-8", errors="replace").rstrip()
    return line if len(line) <= MAX_LINE_CHARS else f"{line[:MAX_LINE_CHARS]}..."


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator] # llama_cpp has no types
def _on_log(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    line = readable_line(text)
    if not line or _EXPECTED in line:
        return
    if level >= 3 and level != 5:
        _last_errors.append(line)
    buffers.note(line)
    _log.log(_LEVELS.get(level, logging.DEBUG), "%s", line)


@functools.cache
def start() -> None:
    """Starts the back ends; later calls do nothing."""
    llama_cpp.llama_log_set(_on_log, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()


def on_abort(say: Callable[[str], object]) -> None:
    """Has `say` called, on whichever thread, with what llama.cpp gives up for, before it
    ends this process: one of its assertions that failed, such as
    `src/llama-model.cpp:1364: GGML_ASSERT(n_expert_used_max > 0) failed`.

    Takes the place of an earlier one.
    """

    def callback(message: bytes) -> None:
        words = message.decode("utf-8", errors="replace").strip().rpartition(_SOURCES)[2]
        print(words, file=sys.stderr, flush=True)  # noqa: T201 - as llama.cpp itself does
        say(words)

    held = _AbortCallback(callback)
    _abort_callbacks.append(held)
    libggml.ggml_set_abort_callback(held)


def system_info() -> str:
    """llama.cpp's own line on which instruction sets it was built for."""
    text: bytes = llama_cpp.llama_print_system_info()
    return text.decode()


def fingerprint() -> str:
    """Changes with llama.cpp's version and with how it was built: saved cells mean
    something to one build only.
    """
    return f"{llama_cpp.__version__} {system_info()}"


def take_errors() -> str:
    """What llama.cpp complained of since the last call, for the message of an error;
    empty if of nothing.
    """
    text = "; ".join(_last_errors)
    _last_errors.clear()
    return text
