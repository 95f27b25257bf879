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
    """Percent of the last ten seconds in which some task, or all that could run
    (`full`), waited for memory.

    `source` is the file it was read from: of our own control group where there is one,
    else of the whole machine.
    """

    some_avg10: float
    full_avg10: float
    source: str


def memory_pressure(root: Path = Path("/")) -> Pressure | None:
    """The pressure now; None where the kernel does not tell (before 4.20, built or
    booted without it, not Linux).
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
