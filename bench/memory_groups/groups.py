"""Makes memory control groups, versions 1 and 2, sets their limits
and reads their counters.

Knows no server.

Sources: Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.fit.machine.cgroup_tree import Group, own_groups
from appliance.fit.machine.kernel_files import read_number, read_text

_SHRINK_S = 20.0  # for the kernel to take from a group what is beyond a new limit
_EMPTY_S = 20.0
_POLL_S = 0.05
_JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


class NoMemoryGroups(Exception):
    """No memory control group can be made here; the text says why."""


class TooSmall(Exception):
    """A group holds more than a new limit allows, and none of it can be given back."""


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What a group holds now, and what happened in it since it was made."""

    anonymous_bytes: int
    file_bytes: int
    kernel_bytes: int  # neither anonymous nor page cache
    # Pages of files that were dropped and soon read again: the kernel's own sign of a
    # working set that is larger than the memory.
    refaulted_bytes: int
    num_oom_kills: int


class MemoryGroup:
    """One group, without swap. `limit_bytes` is None while there is no limit."""

    def __init__(self, directory: Path, version: int) -> None:
        self._directory = directory
        self._version = version
        self.limit_bytes: int | None = None

    def inside(self, *command: str) -> list[str]:
        """The command line that runs `command` in this group."""
        return ["sh", "-c", _JOIN, str(self._directory), *command]

    def limit(self, limit_bytes: int | None) -> None:
        """Sets or lifts the limit.

        Raises `TooSmall` where version 1 cannot; version 2 kills then, which is
        counted.
        """
        unlimited, name = (
            ("-1", "memory.limit_in_bytes") if self._version == 1 else ("max", "memory.max")
        )
        text = unlimited if limit_bytes is None else str(limit_bytes)
        deadline_s = time.monotonic() + _SHRINK_S
        while True:
            try:
                (self._directory / name).write_text(text)
                self.limit_bytes = limit_bytes
                return
            except OSError as error:
                # EBUSY: not yet, because what is dropped is being read again meanwhile
                if time.monotonic() > deadline_s:
                    held = self.counters()
                    raise TooSmall(
                        f"{text} bytes: {error.strerror}; anonymous {held.anonymous_bytes}"
                    ) from error

    def counters(self) -> Counters:
        stat = dict(
            line.split() for line in read_text(self._directory / "memory.stat").splitlines()
        )
        if self._version == 2:
            events = dict(
                line.split() for line in read_text(self._directory / "memory.events").splitlines()
            )
            anonymous, file = int(stat["anon"]), int(stat["file"])
            used = read_number(self._directory / "memory.current") or 0
            # the latter before 5.9
            refaults = stat.get("workingset_refault_file", stat.get("workingset_refault"))
        else:
            control = read_text(self._directory / "memory.oom_control").splitlines()
            events = dict(line.split() for line in control)
            anonymous, file = int(stat["total_rss"]), int(stat["total_cache"])
            used = read_number(self._directory / "memory.usage_in_bytes") or 0
            refaults = stat.get(
                "total_workingset_refault_file", stat.get("total_workingset_refault")
            )
        if refaults is None or "oom_kill" not in events:
            raise NoMemoryGroups("this kernel does not count refaults or kills in control groups")
        kernel = used - anonymous - file
        return Counters(
            anonymous_bytes=anonymous,
            file_bytes=file,
            kernel_bytes=kernel,
            refaulted_bytes=mmap.PAGESIZE * int(refaults),
            num_oom_kills=int(events["oom_kill"]),
        )

    def end(self) -> None:
        """Kills what is left inside, and removes the group."""
        deadline_s = time.monotonic() + _EMPTY_S
        while pids := read_text(self._directory / "cgroup.procs").split():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{self._directory} still has processes: {', '.join(pids)}")
            time.sleep(_POLL_S)
        self._directory.rmdir()


@contextlib.contextmanager
def memory_group(limit_bytes: int | None) -> Iterator[MemoryGroup]:
    """A new group below one of our own, emptied and removed at the end.

    Raises `NoMemoryGroups`.
    """
    group = _made()
    try:
        group.limit(limit_bytes)
        yield group
    finally:
        group.end()


def _made() -> MemoryGroup:
    reasons = []
    for parent in own_groups(Path("/"), "memory"):
        try:
            return _made_below(parent)
        except OSError as error:
            reasons.append(f"{parent.directory}: {error.strerror}")
    raise NoMemoryGroups(
        "; ".join(reasons) or "the memory controller of control groups is not mounted here"
    )


def _made_below(parent: Group) -> MemoryGroup:
    directory = parent.directory / f"appliance-memory-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    try:
        # Version 2 gives a child only those controllers that its parent hands down.
        name, text = ("memory.swappiness", "0") if parent.version == 1 else ("memory.swap.max", "0")
        if parent.version == 1 or (directory / name).exists():
            (directory / name).write_text(text)
        (directory / ("memory.limit_in_bytes" if parent.version == 1 else "memory.max")).stat()
        return MemoryGroup(directory, parent.version)
    except OSError:
        directory.rmdir()
        raise
