"""Calls of the Linux kernel that Python has no name for.

Knows no rule of what is allowed.
"""

from __future__ import annotations

import ctypes
import os

_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h


def call(number: int, *arguments: object) -> int:
    """A system call by its number; integers, `ctypes` pointers and buffers.

    Raises `OSError`, also where the kernel does not know it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def give_up_new_privileges() -> None:
    """From now on no program that is executed has more rights than this process: without
    that promise the kernel takes no rights away either. Raises `OSError`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
