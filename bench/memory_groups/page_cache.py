"""Puts a file out of the page cache, and says how much of one is in it.

Linux only; knows no model.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path


class NotCold(Exception):
    """Pages of a file stayed in memory, for somebody maps them."""


def make_cold(path: Path) -> None:
    """Has the kernel forget every page of a file,
    so that the next reader is charged for them.

    Raises `NotCold`.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())  # a page that is still to be written stays
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    left = cached_bytes(path)
    if left:
        raise NotCold(f"{left >> 20} MiB of {path} are still in memory: another process maps them.")


def cached_bytes(path: Path) -> int:
    """How much of the file the page cache holds, in whole pages (mincore(2))."""
    num_bytes = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as pages:
        start = (ctypes.c_char * num_bytes).from_buffer(pages)
        in_memory = (ctypes.c_ubyte * -(-num_bytes // mmap.PAGESIZE))()
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.mincore(ctypes.byref(start), ctypes.c_size_t(num_bytes), in_memory)
        del start  # the mapping cannot be closed while something points into it
        if failed:
            raise OSError(ctypes.get_errno(), "mincore", str(path))
        return mmap.PAGESIZE * sum(byte & 1 for byte in bytes(in_memory))
