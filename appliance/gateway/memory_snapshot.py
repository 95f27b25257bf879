"""A snapshot of the memory: ours, the machine's, our control groups', and how long
tasks waited for it. Decides nothing.

A millisecond in all, nearly all of it for finding and reading the files of the control
groups.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.fit.machine.cgroups import memory_limits
from appliance.fit.machine.psi import Pressure, memory_pressure
from appliance.fit.plan.budget import readable
from appliance.fit.plan.footprint import BUSY_CODE_BYTES, CODE_BYTES
from appliance.gateway.pressure import Sample
from appliance.worker.memory_use import MemoryUse, available_bytes, memory_use


@dataclass(frozen=True, kw_only=True)
class MemorySnapshot:
    """The memory at one moment."""

    server: MemoryUse
    workers: Mapping[int, MemoryUse]  # by process id
    available_bytes: int  # of the machine, as the system counts
    left_bytes: Mapping[str, int]  # by bound, in words
    stalls: Pressure | None  # None where the kernel reports none

    def sample(self) -> Sample:
        """The tightest bound."""
        bound, left_bytes = min(self.left_bytes.items(), key=lambda pair: pair[1])
        return Sample(left_bytes, bound, 0.0 if self.stalls is None else self.stalls.full_avg10)


def take_snapshot(
    worker_pids: list[int], budget_bytes: int, root: Path = Path("/")
) -> MemorySnapshot:
    """The memory now, of this process and those workers that are still there.

    The weights that workers have mapped are page cache, so the system counts them among
    what it could give. They are in use, and without them every step would read the
    disk: they are not among what is left. Of mapped code only little is in use (see
    `footprint`): the rest counts as left.
    """
    server = memory_use(os.getpid()) or MemoryUse()
    found = ((pid, memory_use(pid)) for pid in worker_pids)
    workers = {pid: use for pid, use in found if use is not None}
    anonymous_bytes = server.anonymous_bytes + sum(use.anonymous_bytes for use in workers.values())
    busy_bytes = BUSY_CODE_BYTES + sum(
        max(0, use.file_bytes - CODE_BYTES) for use in workers.values()
    )
    available = available_bytes()
    left = {
        f"of the budget of {readable(budget_bytes)}": budget_bytes - anonymous_bytes - busy_bytes,
        "of this machine's memory": available - busy_bytes,
    }
    for limit in memory_limits(root):
        idle_code_bytes = min(limit.mapped_bytes, CODE_BYTES - BUSY_CODE_BYTES)
        bound = f"under the {readable(limit.limit_bytes)} limit of {limit.group}"
        left[bound] = min(limit.free_bytes + idle_code_bytes, limit.limit_bytes)
    return MemorySnapshot(
        server=server,
        workers=workers,
        available_bytes=available,
        left_bytes=left,
        stalls=memory_pressure(root),
    )
