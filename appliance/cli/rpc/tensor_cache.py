"""The folder of weights that a helper was sent: llama.cpp writes them there by the hash of
their bytes, and is asked for them before they are sent again.

Knows no process. llama.cpp looks at neither size nor content of a file that it finds: what
may have been cut off (a full disk, a crash while it was written) must be gone before.

Source: `rpc_server::set_tensor` and `get_cached_file` in ggml-rpc.cpp.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)
_WHOLE_AFTER_S = 30.0  # a file is written in one go: unchanged for so long, it is whole
_LEAST_FREE_BYTES = 64 << 20  # of the disk: with less, the last file may have been cut off


@dataclass(frozen=True)
class TensorCache:
    """Files that are known to be whole are read-only: that outlives a crash."""

    folder: Path
    max_bytes: int

    def prepare(self) -> None:
        """Before a server is started: deletes what may have been cut off, and the oldest
        beyond `max_bytes`.

        Raises `OSError`.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in self._unproven():
            _log.warning("deleting %s: it may have been cut off", path)
            path.unlink(missing_ok=True)
        self._shrink()

    def settle(self, *, idle: bool, now_s: float | None = None) -> None:
        """While a server runs: marks as whole what has long not been written to, or all where
        no connection is open (`idle`), and shrinks the folder.
        """
        now_s = time.time() if now_s is None else now_s
        try:
            is_full = shutil.disk_usage(self.folder).free < _LEAST_FREE_BYTES
            for path in self._unproven():
                if is_full:
                    _log.warning("deleting %s: the disk is full, so it may be cut off", path)
                    path.unlink(missing_ok=True)
                elif idle or now_s - path.stat().st_mtime > _WHOLE_AFTER_S:
                    _mark(path)
            self._shrink()
        except OSError as error:
            _log.warning("the cache of weights in %s: %s", self.folder, error)

    def _unproven(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.stat().st_mode & stat.S_IWUSR]

    def _shrink(self) -> None:
        """By the least recently used; a file that is read as it is deleted stays readable."""
        found = sorted(
            ((path, path.stat()) for path in self.folder.iterdir()),
            key=lambda pair: max(pair[1].st_atime, pair[1].st_mtime),
        )
        too_many = sum(status.st_size for _, status in found) - self.max_bytes
        for path, status in found:
            if too_many <= 0:
                return
            path.unlink(missing_ok=True)
            too_many -= status.st_size


def _mark(path: Path) -> None:
    """As whole, once it is on the disk."""
    with path.open("rb") as content:
        os.fsync(content.fileno())
    path.chmod(0o400)
