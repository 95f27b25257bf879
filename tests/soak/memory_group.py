"""A memory control group (version 1) for a server, whose limit can be lowered.

Knows no server. Where there is no such controller, or no leave, there is none.
"""

from __future__ import annotations

import contextlib
import errno
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIMIT_BYTES = 1 << 30
_ROOT = Path("/sys/fs/cgroup/memory")
_END_S = 30.0
_ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


@dataclass(frozen=True)
class MemoryGroup:
    path: Path

    @classmethod
    @contextlib.contextmanager
    def made(cls) -> Iterator[MemoryGroup]:
        """Below that of this process; gone at the end. Raises `OSError`."""
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = [line.split(":", 2)[2] for line in lines if line.split(":", 2)[1] == "memory"]
        if not own or not _ROOT.is_dir():
            raise OSError(errno.ENOENT, "there is no memory controller of version 1")
        above = _ROOT / own[0].lstrip("/")
        group = cls((above if above.is_dir() else _ROOT) / f"soak-{uuid.uuid4().hex[:8]}")
        group.path.mkdir()
        try:
            group.set_limit(LIMIT_BYTES)
            yield group
        finally:
            group._remove()

    @property
    def wrapping(self) -> tuple[str, ...]:
        """Before a command that is to run in it."""
        return ("sh", "-c", _ENTER, str(self.path))

    @property
    def used_bytes(self) -> int:
        """Without page cache, which goes when it must."""
        stat = dict(line.split() for line in self._read("memory.stat").splitlines())
        cached = int(stat["total_active_file"]) + int(stat["total_inactive_file"])
        return int(self._read("memory.usage_in_bytes")) - cached

    @property
    def num_killed(self) -> int:
        """Processes that the kernel ended for want of memory."""
        stat = dict(line.split() for line in self._read("memory.oom_control").splitlines())
        return int(stat.get("oom_kill", 0))

    def set_limit(self, num_bytes: int) -> None:
        (self.path / "memory.limit_in_bytes").write_text(str(num_bytes))

    def _read(self, name: str) -> str:
        return (self.path / name).read_text()

    def _remove(self) -> None:
        deadline_s = time.monotonic() + _END_S
        while self._read("cgroup.procs") and time.monotonic() < deadline_s:
            time.sleep(0.05)  # what was killed is on its way out
        self.path.rmdir()
