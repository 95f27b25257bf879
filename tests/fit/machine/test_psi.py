"""Memory pressure as the kernel tells it, of our own group or of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.fit.machine.psi import Pressure, memory_pressure
from tests.fit.machines import mount, write_machine

GROUP = "sys/fs/cgroup/system.slice/appliance.service"
TEXT = (
    "some avg10={some} avg60=0.10 avg300=0.00 total=622618\n"
    "full avg10={full} avg60=0.00 avg300=0.00 total=566408\n"
)


def test_of_the_machine(tmp_path: Path) -> None:
    write_machine(tmp_path, {"proc/pressure/memory": TEXT.format(some="12.50", full="3.00")})

    assert memory_pressure(tmp_path) == Pressure(12.5, 3.0, str(tmp_path / "proc/pressure/memory"))


def test_our_own_group_comes_first_and_an_ancestor_before_the_machine(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/other\n0::/system.slice/appliance.service\n",
        "proc/self/mountinfo": mount("cgroup", "/", "/sys/fs/cgroup/memory", "rw,memory")
        + mount("cgroup2", "/", "/sys/fs/cgroup", "rw"),
        "proc/pressure/memory": TEXT.format(some="1.00", full="0.00"),
        f"{GROUP}/memory.pressure": TEXT.format(some="99.00", full="80.25"),
        "sys/fs/cgroup/system.slice/memory.pressure": TEXT.format(some="50.00", full="40.00"),
    }
    write_machine(tmp_path, files)

    assert memory_pressure(tmp_path) == Pressure(
        99.0, 80.25, str(tmp_path / GROUP / "memory.pressure")
    )
    (tmp_path / GROUP / "memory.pressure").write_text("")
    assert memory_pressure(tmp_path) == Pressure(
        50.0, 40.0, str(tmp_path / "sys/fs/cgroup/system.slice/memory.pressure")
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "some avg10=1.00\n",
        "some avg10=nan\nfull avg10=nan\n",
        "some avg10=-1.00\nfull avg10=0.00\n",
        "\x00",
    ],
)
def test_what_is_damaged_or_not_there_is_unknown(tmp_path: Path, text: str) -> None:
    assert memory_pressure(write_machine(tmp_path)) is None
    assert memory_pressure(write_machine(tmp_path, {"proc/pressure/memory": text})) is None
