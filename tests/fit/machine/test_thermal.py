"""What allows the verdict that a machine throttles, is hot
or is well, and what allows none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.fit.machine.thermal import ThermalState, read_thermal
from tests.fit.machines import write_machine

ZONE = "sys/class/thermal/thermal_zone3"


def zone(milli_celsius: str, kind: str = "passive", limit: str = "95000") -> dict[str, str]:
    return {
        f"{ZONE}/type": "cpu-thermal\n",
        f"{ZONE}/temp": f"{milli_celsius}\n",
        f"{ZONE}/trip_point_0_type": f"{kind}\n",
        f"{ZONE}/trip_point_0_temp": f"{limit}\n",
    }


@pytest.mark.parametrize(
    ("milli_celsius", "state"),
    [
        ("95000", ThermalState.THROTTLING),
        ("94999", ThermalState.HOT),
        ("90000", ThermalState.HOT),
        ("89999", ThermalState.NORMAL),
        ("-10000", ThermalState.NORMAL),  # out of doors
    ],
)
def test_a_zone_against_its_limit(tmp_path: Path, milli_celsius: str, state: ThermalState) -> None:
    thermal = read_thermal(write_machine(tmp_path, zone(milli_celsius)), [0])

    assert thermal is not None
    assert thermal.state is state
    assert thermal.reason.startswith("cpu-thermal is at ")
    assert thermal.reason.endswith(" C, and the kernel acts at 95 C")


@pytest.mark.parametrize(
    "files", [zone("99000", "active"), zone("50000", limit="0"), zone("50000", limit="-274000")]
)
def test_fans_and_limits_that_are_none_allow_no_verdict(
    tmp_path: Path, files: dict[str, str]
) -> None:
    thermal = read_thermal(write_machine(tmp_path, files), [0])

    assert thermal is not None
    assert (thermal.state, thermal.reason) == (None, "the kernel shows no temperature limit")
    assert thermal.hottest_zone == "cpu-thermal"


@pytest.mark.parametrize("reading", ["0", "-273200", "2147483647", "warm", ""])
def test_a_reading_that_is_none_is_left_out(tmp_path: Path, reading: str) -> None:
    assert read_thermal(write_machine(tmp_path, zone(reading)), [0]) is None


@pytest.mark.parametrize(
    ("kind", "throttling"),
    [("Processor", True), ("thermal-cpufreq-0", True), ("cpufreq-cpu4", True), ("pwm-fan", False)],
)
def test_a_cpu_whose_clock_the_kernel_lowers_throttles(
    tmp_path: Path, kind: str, throttling: bool
) -> None:
    files = {
        "sys/class/thermal/cooling_device1/type": kind,
        "sys/class/thermal/cooling_device1/cur_state": "2\n",
    }

    thermal = read_thermal(write_machine(tmp_path, zone("60000") | files), [0])

    assert thermal is not None
    assert thermal.state is (ThermalState.THROTTLING if throttling else ThermalState.NORMAL)


def test_a_sensor_of_the_cpu_counts_and_others_do_not(tmp_path: Path) -> None:
    files = {
        "sys/class/hwmon/hwmon0/name": "nvme\n",
        "sys/class/hwmon/hwmon0/temp1_input": "85000\n",
        "sys/class/hwmon/hwmon1/name": "k10temp\n",
        "sys/class/hwmon/hwmon1/temp1_input": "71500\n",
        "sys/class/hwmon/hwmon1/temp1_label": "Tctl\n",
        "sys/class/hwmon/hwmon1/temp3_input": "70000\n",
        "sys/class/hwmon/hwmon1/temp3_crit": "74000\n",
    }

    thermal = read_thermal(write_machine(tmp_path, files), [0])

    assert thermal is not None
    assert (thermal.hottest_celsius, thermal.hottest_zone) == (71.5, "k10temp Tctl")
    assert thermal.state is ThermalState.HOT
    assert thermal.reason == "k10temp is at 70 C, and the kernel acts at 74 C"


@pytest.mark.parametrize(
    ("bits", "state", "reason"),
    [
        ("0", ThermalState.NORMAL, "the firmware reports no limit in force"),
        (
            "0x50000",
            ThermalState.NORMAL,
            "the firmware reports no limit in force",
        ),  # it happened, and is over
        ("e0008", ThermalState.THROTTLING, "the firmware reports: soft temperature limit"),
    ],
)
def test_the_firmware_of_a_raspberry_pi(
    tmp_path: Path, bits: str, state: ThermalState, reason: str
) -> None:
    files = {
        "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": f"{bits}\n"
    }

    thermal = read_thermal(write_machine(tmp_path, files), [0])

    assert thermal is not None
    assert (thermal.state, thermal.reason) == (state, reason)
