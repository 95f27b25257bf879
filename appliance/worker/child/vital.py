"""Threads without which the worker would only look alive,
and the end of a process that lost one.

Knows no engine.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from appliance.errors import LoadFailed
from appliance.worker.child.thread_limits import why_no_thread

_log = logging.getLogger(__name__)


def start_vital(
    name: str,
    work: Callable[[], None],
    prepare: Callable[[], None] = lambda: None,
    stack_bytes: int = 0,
) -> threading.Thread:
    """Starts a thread whose failure ends the process; it calls `prepare` first.

    `stack_bytes` 0: the system's size. Raises `LoadFailed`, which names the limit.
    """

    def guarded() -> None:
        try:
            prepare()
            work()
        except Exception:  # noqa: BLE001 - whatever it is, the process must not go on without the thread
            _log.exception("the %s thread failed", name)
            exit_now(1)

    thread = threading.Thread(target=guarded, name=name, daemon=True)
    usual = threading.stack_size(stack_bytes)
    try:
        thread.start()
    except RuntimeError as error:  # Python's only word for it
        raise LoadFailed(f"A thread cannot be started. {why_no_thread(stack_bytes)}") from error
    finally:
        threading.stack_size(usual)
    return thread


def exit_now(status: int) -> NoReturn:
    """Ends at once: the operating system frees llama.cpp's memory faster and more
    safely than its destructors.
    """
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)
