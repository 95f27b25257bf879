"""Parts of a model's file that stay where they are until they are used.

Knows no tensor and no llama.cpp, but that it maps the file.

llama.cpp reads the whole file when it maps it, but for what an architecture marks
(`lazy_mode`): what it need not have read is given back here, and neighbours of what is
read are left alone from then on (madvise(2): MADV_RANDOM, MADV_DONTNEED).
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.protocol.file_range import FileRange

_log = logging.getLogger(__name__)
_MAPS = Path("/proc/self/maps")


def give_back(path: Path, tables: Sequence[FileRange]) -> int:
    """Drops what is in memory of these parts of a mapped file; returns the bytes that
    were looked at, 0 where the system knows no such advice.

    Nothing is lost by it: who reads them, reads the file again.
    """
    if not hasattr(mmap, "MADV_RANDOM") or not _MAPS.exists():
        return 0
    num_bytes = 0
    try:
        found = [part for table in tables for part in _mapped(path, table)]
        libc = ctypes.CDLL(None, use_errno=True)
        for part in found:
            for advice in (mmap.MADV_RANDOM, mmap.MADV_DONTNEED):
                address, length = ctypes.c_void_p(part.address), ctypes.c_size_t(part.length)
                if libc.madvise(address, length, advice):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            num_bytes += part.length
        with path.open("rb") as file:
            for table in tables:
                os.posix_fadvise(
                    file.fileno(), table.first, table.num_bytes, os.POSIX_FADV_DONTNEED
                )
    except OSError as error:  # they are read all the same
        _log.debug("tables of %s stay in memory: %s", path.name, error)
    _log.debug("tables: %d MiB of %s are read when they are used", num_bytes >> 20, path.name)
    return num_bytes


@dataclass(frozen=True)
class _Mapped:
    address: int
    length: int


def _mapped(path: Path, table: FileRange) -> Iterator[_Mapped]:
    """Where whole pages of it are in this process (proc_pid_maps(5))."""
    file = path.stat()
    page = mmap.PAGESIZE
    first, end = -(-table.first // page) * page, table.end // page * page
    for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        addresses, _, offset_text, device, inode, *_ = line.split(maxsplit=5)
        major, minor = (int(number, 16) for number in device.split(":"))
        if int(inode) != file.st_ino or os.makedev(major, minor) != file.st_dev:
            continue
        start, stop = (int(address, 16) for address in addresses.split("-"))
        offset = int(offset_text, 16)
        begin, until = max(first, offset), min(end, offset + stop - start)
        if begin < until:
            yield _Mapped(start + begin - offset, until - begin)
