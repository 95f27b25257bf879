"""One GGUF on its way to disk: invisible until it is whole and synced.

Knows no tensors and no types.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from convert.errors import BadInput, NotEnoughDisk

PARTIAL_SUFFIX = ".partial"
RESUMABLE_SUFFIX = ".resumable"


class OutputFile:
    """A file that takes its final name only in `commit`.

    Until then it is `.NAME.RANDOM.partial` in the same directory, held under a lock
    that dies with the process: by it `remove_stale` distinguishes the leftovers of a
    killed run from the work of a living one. `partial` is that name. `write` is
    thread-safe.

    With a `resume_key` it is `.NAME.KEY.resumable`, which may be there already
    (`was_there`), `remove_stale` leaves it, and who has the key sees to it that nobody else
    writes it.
    """

    def __init__(self, path: Path, num_bytes: int, resume_key: str | None = None) -> None:
        try:
            is_directory = path.is_dir()
        except OSError as error:
            raise _not_creatable(path, error) from error
        if is_directory:
            raise BadInput(f"{path} is a directory. Remove it or choose another name.")
        self.path = path
        self._is_resumable = resume_key is not None
        if resume_key is None:
            self.partial, self._fd = _create_locked(path)
        else:
            self.partial = path.with_name(f".{path.name}.{resume_key}{RESUMABLE_SUFFIX}")
            self._fd = _open(self.partial, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
        self.was_there = os.fstat(self._fd).st_size == num_bytes > 0
        try:
            os.ftruncate(self._fd, num_bytes)
        except OSError as error:  # such as a file system that holds no files of this size
            self.discard()
            raise self._explain(error) from error

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Raises `NotEnoughDisk` if the disk filled up meanwhile."""
        view = memoryview(data).cast("B")
        while len(view):
            try:
                written = os.pwrite(self._fd, view, offset)
            except OSError as error:
                raise self._explain(error) from error
            view, offset = view[written:], offset + written

    def sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._explain(error) from error

    def commit(self) -> None:
        """Gives the synced file its name, replacing what had it; the caller then syncs
        the directory.
        """
        try:
            self.partial.replace(self.path)
        except OSError as error:
            raise self._explain(error) from error
        self._close()

    def discard(self) -> None:
        """Removes the file unless it was committed."""
        if self._fd >= 0:
            self.partial.unlink(missing_ok=True)
            self._close()

    def keep(self) -> None:
        """Leaves the file as it is, for whoever goes on with it."""
        if self._fd >= 0:
            self._close()

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1

    def _explain(self, error: OSError) -> BadInput:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            rest = "The incomplete file was removed."
            if self._is_resumable:
                rest = "What is done is kept: make room, and give the same command again."
            return NotEnoughDisk(f"The disk filled up while {self.path} was being written. {rest}")
        return BadInput(
            f"{self.path} cannot be written: {error.strerror}. The incomplete file was removed."
        )


@contextlib.contextmanager
def whole_file(path: Path, num_bytes: int) -> Iterator[OutputFile]:
    """A file to be filled inside,
    which gets its name after that, on disk; or none at all.

    Raises `BadInput`.
    """
    file = OutputFile(path, num_bytes)
    try:
        yield file
        file.sync()
        file.commit()
    finally:
        file.discard()
    sync_directory(path.parent)


def _create_locked(path: Path) -> tuple[Path, int]:
    while True:
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
        fd = _open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return partial, fd
        os.close(fd)  # another run's `remove_stale` came between making and locking


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags, 0o644)
    except OSError as error:
        raise _not_creatable(path, error) from error


def _not_creatable(path: Path, error: OSError) -> BadInput:
    if error.errno == errno.ENAMETOOLONG:
        return BadInput(
            f"{path} is too long a name for a file there. Choose a shorter one with --name."
        )
    return BadInput(f"{path.parent} cannot be written to: {error.strerror}.")


def sync_directory(directory: Path) -> None:
    """Makes renames in `directory` survive a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_stale(directory: Path) -> list[Path]:
    """Removes what killed runs left in `directory`; files of running conversions are
    locked and stay.
    """
    removed = []
    for path in directory.glob(f".*{PARTIAL_SUFFIX}"):
        # gone, locked, or not ours to remove: it only takes room
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed.append(path)
            finally:
                os.close(fd)
    return removed
