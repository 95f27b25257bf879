"""Meters of power in trees of files that stand for machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.fit.machine.power import find_power_meter


def write(root: Path, **files: object) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / name).write_text(f"{content}\n")
    return root


def rapl_zone(root: Path, name: str, energy_uj: int) -> Path:
    return write(
        root / "sys/class/powercap" / name, energy_uj=energy_uj, max_energy_range_uj=1_000_000_000
    )


def chip(root: Path, number: int, name: str, **files: object) -> Path:
    return write(root / f"sys/class/hwmon/hwmon{number}", name=name, **files)


def test_rapl_is_the_energy_of_all_packages_between_two_readings(tmp_path: Path) -> None:
    first = rapl_zone(tmp_path, "intel-rapl:0", 100_000_000)
    second = rapl_zone(tmp_path, "intel-rapl:1", 999_000_000)
    rapl_zone(tmp_path, "intel-rapl:0:0", 5)  # a part of the first
    meter = find_power_meter(tmp_path)
    assert meter is not None
    assert meter.source == "RAPL (processors)"
    assert meter.watts(10.0) is None
    write(first, energy_uj=130_000_000)
    write(second, energy_uj=9_000_000)  # past its range
    assert meter.watts(12.0) == pytest.approx((30.0 + 10.0) / 2)
    assert meter.watts(12.0) is None  # no time has passed
    (second / "energy_uj").unlink()
    assert meter.watts(13.0) is None
    write(second, energy_uj=1)
    assert meter.watts(14.0) is None  # nothing to compare it with


def test_a_jetsons_board_is_a_rail_of_its_ina3221(tmp_path: Path) -> None:
    chip(
        tmp_path,
        3,
        "ina3221",
        in1_label="VDD_CPU_GPU_CV",
        in1_input=5000,
        curr1_input=700,
        in2_label="VDD_IN",
        in2_input=19000,
        curr2_input=400,
    )
    rapl_zone(tmp_path, "intel-rapl:0", 1)
    meter = find_power_meter(tmp_path)
    assert meter is not None
    assert meter.source == "INA3221 (VDD_IN)"
    assert meter.watts(0.0) == pytest.approx(7.6)


def test_hwmon_shows_microwatts(tmp_path: Path) -> None:
    chip(tmp_path, 0, "nvme", power1_input=3_000_000)
    chip(tmp_path, 1, "coretemp", temp1_input=40_000)
    chip(tmp_path, 2, "power_meter", power1_average=42_500_000, power2_average=40_000_000)
    meter = find_power_meter(tmp_path)
    assert meter is not None
    assert meter.source == "hwmon (power_meter)"
    assert meter.watts(0.0) == 42.5


@pytest.mark.parametrize("reading", ["", "0", "450", "-3000000", "99999999999999", "a lot"])
def test_what_is_no_reading_is_no_meter(tmp_path: Path, reading: str) -> None:
    chip(tmp_path, 0, "power_meter", power1_input=reading)
    assert find_power_meter(tmp_path) is None


def test_of_a_machine_that_shows_nothing_nothing_is_known(tmp_path: Path) -> None:
    assert find_power_meter(tmp_path) is None
