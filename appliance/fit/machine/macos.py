"""What macOS reports about its cores through sysctl(8).

Knows no memory: psutil reads that.

Source: https://developer.apple.com/documentation/kernel/1387446-sysctlbyname (of
hw.perflevelN, 0 is the quickest).
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from appliance.fit.machine.cpus import CoreKinds
from appliance.fit.machine.kernel_files import parse_number

_NAMES = (
    "machdep.cpu.brand_string",
    "hw.optional.arm64",
    "hw.perflevel0.physicalcpu",
    "hw.perflevel1.physicalcpu",
)
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class MacCpus:
    """A Mac's processor, as far as sysctl knows it."""

    name: str | None
    kinds: CoreKinds | None
    # the chip's name, where its GPU computes on the machine's memory as all of Apple's
    # do
    unified_memory: str | None


def read_mac_cpus() -> MacCpus:
    """Asks sysctl; what it does not know (Intel's chips have no levels) it leaves out
    of its answer.
    """
    try:
        asked = subprocess.run(
            ["sysctl", *_NAMES], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return MacCpus(None, None, None)
    return parse_sysctl(asked.stdout)


def parse_sysctl(text: str) -> MacCpus:
    """Lines of the form `hw.perflevel0.physicalcpu: 8`."""
    values = {
        name: value.strip()
        for name, _, value in (line.partition(":") for line in text.splitlines())
    }
    name = values.get("machdep.cpu.brand_string") or None
    quick = parse_number(values.get("hw.perflevel0.physicalcpu", "")) or 0
    slow = parse_number(values.get("hw.perflevel1.physicalcpu", "")) or 0
    kinds = CoreKinds(quick, slow, "hw.perflevel0.physicalcpu") if quick > 0 and slow > 0 else None
    unified = (name or "Apple silicon") if values.get("hw.optional.arm64") == "1" else None
    return MacCpus(name, kinds, unified)
