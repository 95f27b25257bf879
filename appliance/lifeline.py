"""Ties a child's life to its parent's, also while native code keeps it from reading its
socket.

Knows no messages and no program.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys

_log = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Has the kernel send this process the signal `number` when the parent's thread that
    started it ends; does nothing but on Linux.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        # A sandbox may forbid it: a worker's closing socket still ends it, only later.
        _log.warning("prctl(PR_SET_PDEATHSIG) failed: %s", os.strerror(ctypes.get_errno()))
