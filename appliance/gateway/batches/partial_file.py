"""A file while it is being written, under a name that nobody looks for.

Knows no record of it and no limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from appliance.errors import StorageFailed, StorageFull

_STEP_BYTES = 1 << 20


class PartialFile:
    """Unless `finish` is called, leaving it removes it.

    What is done in a thread goes on when the task that waits for it is cancelled, hence
    the lock.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` is made where there is none."""
        self._path = folder / f".{secrets.token_hex(8)}.partial"
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._is_over = False
        self._waiting = bytearray()  # written in large steps
        self.num_bytes = 0

    async def __aenter__(self) -> PartialFile:
        return self

    async def __aexit__(self, *_: object) -> None:
        # also where whoever waits for it is cancelled
        await asyncio.shield(asyncio.create_task(asyncio.to_thread(self._close)))

    async def write(self, data: bytes) -> None:
        """Raises `StorageFailed`."""
        self.num_bytes += len(data)
        self._waiting += data
        if len(self._waiting) >= _STEP_BYTES:
            with disk_failures():
                await asyncio.to_thread(self._flush, bytes(self._waiting))
            self._waiting.clear()

    async def finish(self, target: Path) -> None:
        """Puts it on the disk, and then to its place. Raises `StorageFailed`."""
        with disk_failures():
            await asyncio.to_thread(self._flush, bytes(self._waiting), target)

    # --- in a thread ------------------------------------------------------------------

    def _flush(self, data: bytes, target: Path | None = None) -> None:
        with self._lock:
            if self._is_over:
                return
            if self._file is None:
                self._file = self._opened()
            self._file.write(data)
            if target is not None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._path.replace(target)

    def _opened(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def _close(self) -> None:
        with self._lock:
            self._is_over = True
            if self._file is None:
                return
            # Nothing of it is wanted any more, not even what a full disk did not take.
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_failures() -> Iterator[None]:
    """Raises `StorageFull` or `StorageFailed` for an `OSError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                "The disk that holds the server's --state-dir is full: free some space on it."
            ) from error
        raise StorageFailed(
            f"The files of the server's --state-dir cannot be read or written: {error.strerror}."
        ) from error
