"""A model's files as the kernel keeps them in memory: which they are, and in how large pages.

Knows no llama.cpp and no model's content. A token reads all weights once, and with pages
of 4 KiB the CPU looks up 500 of them for each 2 MiB. Linux keeps a mapped file in huge
pages where its file system can (ext4 since 6.16, XFS, Btrfs), but only if it is asked
before the file is read. They stay the file's own pages: shared, and no more memory.
"""

from __future__ import annotations

import glob
import logging
import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.llama.loading.progress import LoadProgress
from appliance.protocol.file_range import FileRange

_log = logging.getLogger(__name__)
_FIRST_PART = "-00001-of-"  # in the name of the first of several files
_HUGE_PAGE = 2 << 20  # bytes
_CHUNK = 8 * _HUGE_PAGE  # read at once: other threads stand still meanwhile
_ROLLUP = Path("/proc/self/smaps_rollup")
# Linux's numbers (include/uapi/asm-generic/mman-common.h), which Python does not name.
_MADV_POPULATE_READ = 22  # since 5.14
_MADV_COLLAPSE = 25  # since 6.1
# What is in memory already, in small pages, is read again only where that is quick: once
# after a file was written or downloaded.
_MAX_REREAD_S = 10.0
_MIN_BYTES_PER_S = 400e6
_PATIENCE_S = 0.2  # a disk's first answer says little


def is_in_parts(model: Path) -> bool:
    """Whether its other files are found by listing the folder."""
    return _FIRST_PART in model.name


def files_of(model: Path) -> list[Path]:
    """The model's file, or all of its parts, of which `model` is the first."""
    if not is_in_parts(model):
        return [model]
    pattern = glob.escape(model.name).replace(_FIRST_PART, "-[0-9]*-of-")
    return sorted(model.parent.glob(pattern))


def read_in_huge_pages(model: Path, left_out: Sequence[FileRange] = ()) -> int:
    """Reads the model's files into memory, in huge pages where that can be had, but for
    some parts of a model in one file; returns how many bytes are in such. To be called
    before llama.cpp maps them.

    It only ever makes reading quicker: what the kernel refuses is left as it is.
    """
    files = files_of(model)
    progress = _Reading(files, LoadProgress(f"reading {model.name}"))
    huge = sum(_read(path, progress, left_out) for path in files)
    _log.debug("weights: %d MiB of %s in huge pages", huge >> 20, model.name)
    return huge


class _Reading:
    """Adds up what was read of several files."""

    def __init__(self, files: Sequence[Path], on_share: Callable[[float], None]) -> None:
        self._num_bytes = sum(path.stat().st_size for path in files if path.exists())
        self._on_share = on_share
        self._done_bytes = 0

    def __call__(self, num_bytes: int) -> None:
        self._done_bytes += num_bytes
        self._on_share(self._done_bytes / self._num_bytes)


def _read(path: Path, on_read: Callable[[int], None], left_out: Sequence[FileRange]) -> int:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not hasattr(mmap, "MADV_HUGEPAGE") or size < _HUGE_PAGE or not _ROLLUP.exists():
                return 0
            with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped:
                return _MappedFile(file.fileno(), mapped, size, left_out).read(on_read)
    except OSError as error:  # whoever loads the model says what is wrong with the file
        _log.debug("no huge pages for %s: %s", path, error)
        return 0


@dataclass(frozen=True)
class _MappedFile:
    """Each step may raise `OSError`: an older kernel does not know it."""

    fd: int
    mapped: mmap.mmap
    size: int
    left_out: Sequence[FileRange]

    def read(self, on_read: Callable[[int], None]) -> int:
        """Returns the bytes in huge pages; `on_read` gets the bytes of each piece."""
        self.mapped.madvise(mmap.MADV_HUGEPAGE)
        others, started_s = _huge_bytes(), time.monotonic()
        small = []
        for chunk in self._chunks():
            if not self._populate(chunk):
                small.append(chunk)
            on_read(chunk.length)
        was_in_memory = self.size > _MIN_BYTES_PER_S * (time.monotonic() - started_s)
        if small and was_in_memory and not self._collapse(small):
            self._read_again(small)
        return max(0, _huge_bytes() - others)

    def _chunks(self) -> Iterator[_Chunk]:
        """All of the file but whole huge pages of what is left out."""
        start = 0
        for part in sorted(self.left_out, key=lambda part: part.first):
            end = -(-part.first // _HUGE_PAGE) * _HUGE_PAGE
            yield from _chunks_between(start, min(end, self.size))
            start = max(start, part.end // _HUGE_PAGE * _HUGE_PAGE)
        yield from _chunks_between(start, self.size)

    def _populate(self, chunk: _Chunk) -> bool:
        """Whether it is in huge pages."""
        before = _huge_bytes()
        self.mapped.madvise(_MADV_POPULATE_READ, chunk.start, chunk.length)
        return _huge_bytes() - before >= chunk.length // _HUGE_PAGE * _HUGE_PAGE

    def _collapse(self, chunks: Sequence[_Chunk]) -> bool:
        """Has small pages copied into huge ones; False where the kernel does not do that for
        files (it is a choice of whoever built it, CONFIG_READ_ONLY_THP_FOR_FS).
        """
        try:
            for chunk in chunks:
                self.mapped.madvise(_MADV_COLLAPSE, chunk.start, chunk.length)
        except OSError:
            return False
        return True

    def _read_again(self, chunks: Sequence[_Chunk]) -> None:
        started_s, length = time.monotonic(), 0
        for chunk in chunks:
            self.mapped.madvise(mmap.MADV_DONTNEED, chunk.start, chunk.length)
            os.posix_fadvise(self.fd, chunk.start, chunk.length, os.POSIX_FADV_DONTNEED)
            # Not to be had: of pages not written to disk yet, of those that others use, in a
            # file system that has no huge ones.
            if not self._populate(chunk):
                return
            length, elapsed_s = length + chunk.length, time.monotonic() - started_s
            if elapsed_s > _MAX_REREAD_S or length < _MIN_BYTES_PER_S * (elapsed_s - _PATIENCE_S):
                return


@dataclass(frozen=True)
class _Chunk:
    start: int
    length: int


def _chunks_between(first: int, end: int) -> Iterator[_Chunk]:
    for start in range(first, end, _CHUNK):
        yield _Chunk(start, min(_CHUNK, end - start))


def _huge_bytes() -> int:
    """Of files, that are mapped in huge pages by this process."""
    for line in _ROLLUP.read_text().splitlines():
        if line.startswith("FilePmdMapped:"):
            return int(line.split()[1]) << 10
    return 0
