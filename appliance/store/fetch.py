"""One file from a hub to its place:
goes on where it was ended, is checked, then gets its name.

Chooses nothing.

What has arrived so far lies in a folder for unfinished files, named by its content's
hash, so that bytes of two versions of a file never meet.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from appliance.errors import BadModelFile, PullFailed
from appliance.store.hub.client import open_body
from appliance.store.hub.records import HubFile, Repository
from appliance.store.hub.refusals import TRANSIENT_ERRORS, lost

PARTIAL_SUFFIX = ".partial"
_READ_BYTES = 1 << 20
_PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0)  # before asking again where nothing came since the last time


def fetch_file(
    repository: Repository,
    file: HubFile,
    target: Path,
    unfinished: Path,
    on_progress: Callable[[int], None],
    check: Callable[[Path], object] = Path.stat,
) -> None:
    """Puts the file to `target`, on the same disk as the folder `unfinished`.

    `on_progress` gets the number of bytes that are here; `check` sees the file whole,
    before it has its name, and may raise `BadModelFile`. Raises what `open_body` does,
    and `PullFailed` where size or hash is not what the hub said, or the disk is full.
    """
    partial = unfinished / f"{file.content_id}{PARTIAL_SUFFIX}"
    try:
        with partial.open("a+b") as stream:
            _Download(repository, file, stream, on_progress).run()
            os.fsync(stream.fileno())
        check(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
    except BadModelFile:
        partial.unlink()
        raise
    except _ContentMismatch as error:
        partial.unlink()
        raise PullFailed(
            f"{error} The file was deleted. Try again; if that does not help, choose another "
            "repository."
        ) from error
    except OSError as error:
        raise PullFailed(
            f"{error.filename or partial} cannot be written: {error.strerror}. What has been "
            "downloaded so far is kept: correct this and pull again."
        ) from error


class _ContentMismatch(Exception):
    """What has arrived is not what was announced."""


class _Download:
    """The bytes of one file on their way into a stream
    that may hold the first of them already.
    """

    def __init__(
        self,
        repository: Repository,
        file: HubFile,
        stream: BinaryIO,
        on_progress: Callable[[int], None],
    ) -> None:
        self._repository = repository
        self._file = file
        self._stream = stream
        self._on_progress = on_progress
        self._digest = _new_digest(file)
        self._num_bytes = 0

    def run(self) -> None:
        self._take_over()
        pauses_s = iter(_PAUSES_S)
        while self._num_bytes < self._file.num_bytes:
            num_bytes_so_far = self._num_bytes
            try:
                self._receive()
                failure: Exception = ConnectionError("the hub ended its response too early")
            except TRANSIENT_ERRORS as error:
                failure = error
            if self._num_bytes > num_bytes_so_far:
                pauses_s = iter(_PAUSES_S)
                continue
            pause_s = next(pauses_s, None)
            if pause_s is None:
                raise lost(self._repository, self._file, failure) from failure
            time.sleep(pause_s)
        self._check()

    def _take_over(self) -> None:
        """What an earlier run has left."""
        self._stream.seek(0)
        while chunk := self._stream.read(_READ_BYTES):
            self._count(chunk)
        if self._num_bytes > self._file.num_bytes:
            self._begin_anew()
        self._on_progress(self._num_bytes)

    def _receive(self) -> None:
        with open_body(self._repository, self._file, self._num_bytes) as body:
            if body.start != self._num_bytes:
                self._begin_anew()
            for chunk in body.chunks:
                if self._num_bytes + len(chunk) > self._file.num_bytes:
                    raise _ContentMismatch(
                        f"{self._what} is larger than the {self._file.num_bytes} bytes that the "
                        "hub announced."
                    )
                self._stream.write(chunk)
                self._count(chunk)
                self._on_progress(self._num_bytes)

    def _begin_anew(self) -> None:
        """The stream is open for appending: what is written goes to its end, which is
        its beginning now.
        """
        self._stream.truncate(0)
        self._digest = _new_digest(self._file)
        self._num_bytes = 0

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._num_bytes += len(chunk)

    def _check(self) -> None:
        self._stream.flush()
        found = self._digest.hexdigest()
        if found != self._file.content_id:
            kind = "SHA-256" if self._file.sha256 else "git SHA-1"
            raise _ContentMismatch(
                f"{self._what} has the {kind} {found}, but the hub announced "
                f"{self._file.content_id}."
            )

    @property
    def _what(self) -> str:
        return f"{self._file.name} of {self._repository.id}"


def _new_digest(file: HubFile) -> hashlib._Hash:
    if file.sha256 is not None:
        return hashlib.sha256()
    # a git blob's name (git-scm.com/book, Git Objects); git does not use it against
    # forgers, and neither do we
    return hashlib.sha1(f"blob {file.num_bytes}\0".encode(), usedforsecurity=False)
