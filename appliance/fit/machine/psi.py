"""How much of the time tasks wait for memory: pressure stall information of Linux.

Knows no limit and no remedy.

Source: Documentation/accounting/psi.rst; memory.pressure in admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from appliance.fit.machine.cgroup_tree import own_groups
from appliance.fit.machine.kernel_files import read_text

_LINE = re.compile(r"(some|full) avg10=([0-9]{1,3}\.[0-9]{1,6})(?: .*)?")


@dataclass(frozen=True)
class Pressure:
    """Percent of the last ten seconds in which tasks waited for memory."""

    some_avg10: float  # at least one task waited
    full_avg10: float  # all tasks that could have run waited
    source: str  # the file: of our own control group where there is one, else of the machine


def memory_pressure(root: Path = Path("/")) -> Pressure | None:
    """The pressure now; None where the kernel does not report it (before 4.20,
    built or booted without it, not Linux).
    """
    groups = [
        group.directory / "memory.pressure"
        for group in own_groups(root, "memory")
        if group.version == 2
    ]
    for path in (*groups, root / "proc/pressure/memory"):
        matches = (_LINE.fullmatch(line) for line in read_text(path).splitlines())
        averages = {match[1]: float(match[2]) for match in matches if match is not None}
        if averages.keys() == {"some", "full"}:
            return Pressure(averages["some"], averages["full"], str(path))
    return None
