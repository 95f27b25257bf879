"""Whether this machine is held back by its heat or its power supply,
as far as Linux shows it.

Knows no remedy.

Sources: Documentation/driver-api/thermal/sysfs-api.rst, Documentation/hwmon/sysfs-interface.rst,
ABI/testing/sysfs-devices-system-cpu; for the Raspberry Pi `vcgencmd get_throttled`
(https://www.raspberrypi.com/documentation/computers/os.html#get_throttled).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.fit.machine.kernel_files import read_number, read_text

_THERMAL = "sys/class/thermal"
_HWMON = "sys/class/hwmon"
# Sensors of CPUs, which on many desktops and servers stand in no thermal zone.
_CPU_SENSORS = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal"})
_NEAR_CELSIUS = 5.0
# Drivers write 0, absolute zero or the largest number for "no such limit" and "no
# reading".
_PLAUSIBLE_READING = (-40.0, 150.0)
_PLAUSIBLE_LIMIT = (40.0, 150.0)
_CPU_COOLING = ("Processor", "cpufreq-", "thermal-cpufreq-")
# Bits of the Raspberry Pi's firmware that say what holds now; those of the past are 16
# higher.
_PI_BITS = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
_PI_UNDER_VOLTAGE, _PI_SOFT_LIMIT, _PI_NOW = 1 << 0, 1 << 3, 0xF


class ThermalState(str, enum.Enum):
    NORMAL = "normal"
    HOT = "hot"  # within 5 degrees of the point where the kernel acts
    THROTTLING = "throttling"


@dataclass(frozen=True, kw_only=True)
class Thermal:
    """How hot the machine is, and what that costs."""

    state: ThermalState | None  # None where the kernel shows too little to say
    reason: str  # what `state` follows from
    hottest_celsius: float | None = None
    hottest_zone: str = ""
    throttle_count: int | None = None  # since boot, over all CPUs
    margin_celsius: float | None = None  # up to the nearest limit of any part; below 0 beyond
    is_by_heat: bool = False  # throttling, and not for want of power alone
    # Highest clock that is allowed over the CPU's own highest, the least of our CPUs:
    # below 1 heat, firmware, a power profile or the administrator holds them back.
    clock_share: float | None = None


@dataclass(frozen=True)
class _Zone:
    """One thermal zone of the kernel, or one sensor of a CPU."""

    name: str
    celsius: float
    limit_celsius: float | None  # the lowest at which the kernel lowers clocks, or worse


def read_thermal(root: Path, cpus: Sequence[int]) -> Thermal | None:
    """The state now, of the machine and of those CPUs; None where the kernel shows
    nothing of it.
    """
    zones = [
        zone
        for directory in _numbered(root / _THERMAL, "thermal_zone")
        if (zone := _zone(directory)) is not None
    ] + [*_sensors(root)]
    hottest = max(zones, key=lambda zone: zone.celsius, default=None)
    pi_bits = _pi_bits(root)
    counts = [
        read_number(path / "thermal_throttle/core_throttle_count")
        for path in _cpu_directories(root, cpus)
    ]
    known_counts = [count for count in counts if count is not None]
    share = _clock_share(root, cpus)
    if hottest is None and pi_bits is None and not known_counts and share is None:
        return None
    cooling = _cooling(root)
    state, reason = _verdict(zones, cooling, pi_bits)
    margins = [z.limit_celsius - z.celsius for z in zones if z.limit_celsius is not None]
    return Thermal(
        state=state,
        reason=reason,
        hottest_celsius=hottest.celsius if hottest else None,
        hottest_zone=hottest.name if hottest else "",
        throttle_count=sum(known_counts) if known_counts else None,
        margin_celsius=min(margins, default=None),
        is_by_heat=_is_hot(pi_bits) or cooling is not None or any(m <= 0 for m in margins),
        clock_share=share,
    )


def _is_hot(pi_bits: int | None) -> bool:
    """A Pi that lacks power has its clock capped and is throttled too."""
    now = (pi_bits or 0) & _PI_NOW
    return bool(now) and bool(now & _PI_SOFT_LIMIT or not now & _PI_UNDER_VOLTAGE)


def _verdict(
    zones: Sequence[_Zone], cooling: str | None, pi_bits: int | None
) -> tuple[ThermalState | None, str]:
    pi_words = [words for bit, words in _PI_BITS.items() if pi_bits and pi_bits >> bit & 1]
    if pi_words:
        return ThermalState.THROTTLING, f"the firmware reports: {', '.join(pi_words)}"
    if cooling is not None:
        return ThermalState.THROTTLING, f"the kernel is lowering the clock ({cooling})"
    limited = [
        (zone.limit_celsius - zone.celsius, zone)
        for zone in zones
        if zone.limit_celsius is not None
    ]
    if not limited:
        return (
            (ThermalState.NORMAL, "the firmware reports no limit in force")
            if pi_bits is not None
            else (None, "the kernel shows no temperature limit")
        )
    left, zone = min(limited, key=lambda pair: pair[0])
    reason = (
        f"{zone.name} is at {zone.celsius:.0f} C, and the kernel acts at "
        f"{zone.celsius + left:.0f} C"
    )
    if left <= 0:
        return ThermalState.THROTTLING, reason
    return (ThermalState.HOT if left <= _NEAR_CELSIUS else ThermalState.NORMAL), reason


def _zone(directory: Path) -> _Zone | None:
    celsius = _celsius(directory / "temp", _PLAUSIBLE_READING)
    if celsius is None:
        return None
    limits = []
    for kind in directory.glob("trip_point_*_type"):
        if read_text(kind) in ("passive", "hot", "critical"):  # `active` starts a fan
            limits.append(
                _celsius(kind.with_name(kind.name.replace("_type", "_temp")), _PLAUSIBLE_LIMIT)
            )
    known = [limit for limit in limits if limit is not None]
    return _Zone(read_text(directory / "type") or directory.name, celsius, min(known, default=None))


def _sensors(root: Path) -> Iterator[_Zone]:
    for directory in _numbered(root / _HWMON, "hwmon"):
        name = read_text(directory / "name")
        if name not in _CPU_SENSORS:
            continue
        for path in sorted(directory.glob("temp*_input")):
            celsius = _celsius(path, _PLAUSIBLE_READING)
            if celsius is not None:
                limit = _celsius(_beside(path, "crit"), _PLAUSIBLE_LIMIT)
                label = read_text(_beside(path, "label"))
                yield _Zone(f"{name} {label}".strip(), celsius, limit)


def _beside(path: Path, what: str) -> Path:
    return path.with_name(path.name.replace("_input", f"_{what}"))


def _celsius(path: Path, plausible: tuple[float, float]) -> float | None:
    """Of a file in thousandths of a degree; None for what no chip that computes has."""
    milli = read_number(path)
    celsius = milli / 1000 if milli else None
    least, most = plausible
    return celsius if celsius is not None and least <= celsius <= most else None


def _cooling(root: Path) -> str | None:
    """The cooling device that lowers a CPU's clock now, if one does."""
    for directory in _numbered(root / _THERMAL, "cooling_device"):
        kind = read_text(directory / "type")
        if kind.startswith(_CPU_COOLING) and (read_number(directory / "cur_state") or 0) > 0:
            return kind
    return None


def _pi_bits(root: Path) -> int | None:
    for path in sorted((root / "sys/devices/platform").glob("soc*/soc*firmware/get_throttled")):
        text = read_text(path).removeprefix("0x")
        if 0 < len(text) <= 8 and all(digit in "0123456789abcdefABCDEF" for digit in text):
            return int(text, 16)
    return None


def _clock_share(root: Path, cpus: Sequence[int]) -> float | None:
    shares = []
    for directory in _cpu_directories(root, cpus):
        most = read_number(directory / "cpufreq/cpuinfo_max_freq")
        allowed = read_number(directory / "cpufreq/scaling_max_freq")
        if most is not None and allowed is not None and most > 0 and allowed > 0:
            shares.append(min(1.0, allowed / most))
    return min(shares, default=None)


def _cpu_directories(root: Path, cpus: Sequence[int]) -> Iterator[Path]:
    return (root / f"sys/devices/system/cpu/cpu{cpu}" for cpu in cpus)


def _numbered(directory: Path, prefix: str) -> list[Path]:
    """`thermal_zone0`, `thermal_zone1`, ...; none where there is no such directory."""
    return sorted(directory.glob(f"{prefix}[0-9]*"))
