"""How much power this machine takes, as far as Linux shows it.

Knows no request and no price.

Sources: Documentation/power/powercap/powercap.rst (RAPL) and
Documentation/hwmon/{sysfs-interface,ina3221}.rst.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from appliance.fit.machine.kernel_files import read_number, read_text

_POWERCAP = "sys/class/powercap"
_HWMON = "sys/class/hwmon"
_MIN_WATTS, _MAX_WATTS = 0.2, 10_000.0  # of a machine: anything else is no reading
_PACKAGE = re.compile(r"intel-rapl:\d+")  # its cores are `intel-rapl:0:0`; AMD's are named so too
_BOARD_RAILS = ("VDD_IN", "POM_5V_IN", "SYS_VIN")  # a Jetson as a whole, by a channel's label
_PARTS = ("nvme", "amdgpu", "i915", "xe", "nouveau")  # chips that show only their own power


class PowerMeter(Protocol):
    """Reads the machine's power again and again."""

    @property
    def source(self) -> str:
        """What shows it, in words."""

    def watts(self, now_s: float, /) -> float | None:
        """Since it was asked last, or at this moment; `now_s` never goes back. None where it
        cannot be read.
        """


def find_power_meter(root: Path = Path("/")) -> PowerMeter | None:
    """Of the whole machine if there is one, else of its processors. None where the kernel
    shows nothing, or not to us: RAPL is root's alone.
    """
    return _ina3221(root) or _hwmon(root) or _rapl(root)


@dataclass(eq=False)
class _Rapl:
    """Counts of energy, which start again from 0 at their range."""

    zones: Sequence[Path]
    source: str = "RAPL (processors)"
    _last: tuple[float, list[int]] | None = None  # when, and what was read

    def watts(self, now_s: float, /) -> float | None:
        read = [read_number(zone / "energy_uj") for zone in self.zones]
        counts = [count for count in read if count is not None]
        last, self._last = self._last, (now_s, counts)
        if len(counts) < len(self.zones):
            self._last = None
            return None
        if last is None or now_s <= last[0]:
            return None
        total_uj = 0
        for zone, before, count in zip(self.zones, last[1], counts, strict=True):
            range_uj = read_number(zone / "max_energy_range_uj") or 0
            total_uj += count - before + (range_uj if count < before else 0)
        return _plausible(total_uj / 1e6 / (now_s - last[0]))


@dataclass(frozen=True)
class _Product:
    """Voltage in millivolts times current in milliamperes."""

    voltage: Path
    current: Path
    source: str

    def watts(self, _now_s: float, /) -> float | None:
        millivolts, milliamperes = read_number(self.voltage), read_number(self.current)
        if millivolts is None or milliamperes is None:
            return None
        return _plausible(millivolts * milliamperes / 1e6)


@dataclass(frozen=True)
class _Microwatts:
    file: Path
    source: str

    def watts(self, _now_s: float, /) -> float | None:
        microwatts = read_number(self.file)
        return None if microwatts is None else _plausible(microwatts / 1e6)


def _plausible(watts: float) -> float | None:
    return watts if _MIN_WATTS <= watts <= _MAX_WATTS else None


def _rapl(root: Path) -> PowerMeter | None:
    zones = [
        path
        for path in sorted((root / _POWERCAP).glob("intel-rapl:*"))
        if _PACKAGE.fullmatch(path.name) and read_number(path / "energy_uj") is not None
    ]
    return _Rapl(zones) if zones else None


def _ina3221(root: Path) -> PowerMeter | None:
    for chip in sorted((root / _HWMON).glob("hwmon*")):
        if read_text(chip / "name") != "ina3221":
            continue
        for label in sorted(chip.glob("in*_label")):
            rail = read_text(label)
            number = label.name.removeprefix("in").removesuffix("_label")
            meter = _Product(
                chip / f"in{number}_input", chip / f"curr{number}_input", f"INA3221 ({rail})"
            )
            if rail in _BOARD_RAILS and meter.watts(0.0) is not None:
                return meter
    return None


def _hwmon(root: Path) -> PowerMeter | None:
    for chip in sorted((root / _HWMON).glob("hwmon*")):
        name = read_text(chip / "name")
        if not name or name in _PARTS:
            continue
        # the first channel: of those that have several it is what goes in, or all together
        for kind in ("average", "input"):
            meter = _Microwatts(chip / f"power1_{kind}", f"hwmon ({name})")
            if meter.watts(0.0) is not None:
                return meter
    return None
