"""The share of this machine's cores that each node of a fleet has to itself.

Knows no server. Two nodes or fewer have a whole core each, by affinity; of more, several share
a core, each with its part of its time by a quota, so that none gains by another's rest. All of
them go before whatever else the machine does (control groups, so: as root).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.fit.machine.cgroup_tree import own_groups

_PERIOD_US = 10_000  # short, so that a step is stopped often and briefly
_UNBOUND = -1  # microseconds of a period
_MOST_SHARES, _MOST_WEIGHT = 262_144, 10_000  # in versions 1 and 2; others have 1,024 and 100


@dataclass(frozen=True)
class Share:
    """`words` start a command with it."""

    words: tuple[str, ...]
    cores: float
    _group: Path

    def bind(self) -> None:
        """From now on it has no more, where others have the rest."""
        self._limit(int(self.cores * _PERIOD_US) if self.cores < 1 else None)

    def free(self) -> None:
        """It has what there is: starting takes some programs more than they may take later."""
        self._limit(None)

    def _limit(self, quota_us: int | None) -> None:
        if (self._group / "cpu.max").exists():
            (self._group / "cpu.max").write_text(f"{quota_us or 'max'} {_PERIOD_US}")
        else:
            (self._group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (self._group / "cpu.cfs_quota_us").write_text(str(quota_us or _UNBOUND))


@contextmanager
def shares(num_nodes: int) -> Iterator[list[Share]]:
    """One for each node; this process, which asks them, goes before all.

    Raises `OSError` where control groups cannot be made.
    """
    cores = sorted(os.sched_getaffinity(0))
    part = min(len(cores) / num_nodes, 1.0)
    # it computes little, and what it waits for a core would count as a node's
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    with ExitStack() as groups:
        found = []
        for number in range(num_nodes):
            group = groups.enter_context(_group(str(number)))
            enter = f'echo $$ > "{group}/cgroup.procs" && exec "$@"'
            pinned = ("taskset", "-c", str(cores[number % len(cores)]))
            found.append(Share((*pinned, "sh", "-c", enter, "sh"), part, group))
        yield found


@contextmanager
def _group(name: str) -> Iterator[Path]:
    """Before all others."""
    root = own_groups(Path("/"), "cpu")[0].directory
    group = root / f"appliance-fleet-{os.getpid()}-{name}"
    group.mkdir()
    try:
        if (group / "cpu.weight").exists():
            (group / "cpu.weight").write_text(str(_MOST_WEIGHT))
        else:
            (group / "cpu.shares").write_text(str(_MOST_SHARES))
        yield group
    finally:
        group.rmdir()


def machine_words() -> str:
    """Of which processor the shares are."""
    found = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    names = (line.partition(":")[2].strip() for line in found.splitlines() if "Model name" in line)
    return f"{next(names, 'unknown processor')}, {os.cpu_count()} cores"
