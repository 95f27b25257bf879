"""--download and --offline: a folder of wheels from one machine installs on another of
its kind, and only there.
"""

from __future__ import annotations

import shutil
import sys

import pytest

from tests.install.machine import CPUINFO, Machine, pip_verbs

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def prepared(machine: Machine) -> Machine:
    """A machine without cache, compiler and index
    that has a folder `wheels` from a twin.
    """
    done = machine.install("--download", "wheels")
    assert done.returncode == 0, done.stderr
    assert f"--offline {machine.elsewhere}/wheels" in done.stdout
    shutil.rmtree(machine.home / ".cache")
    for compiler in ("cc", "c++"):
        (machine.bin / compiler).unlink()
    return machine


def test_the_folder_holds_all_wheels_and_nothing_is_installed(prepared: Machine) -> None:
    names = {path.name for path in (prepared.elsewhere / "wheels").iterdir()}
    assert names >= {"llama_cpp_python-1.2.3-py3-none-any.whl", "appliance-0.1.0-py3-none-any.whl"}
    assert pip_verbs(prepared.take_calls()) == ["wheel", "wheel", "wheel"]
    assert not (prepared.checkout / ".venv").exists()


def test_installs_from_the_folder_alone_and_once(prepared: Machine) -> None:
    prepared.take_calls()
    done = prepared.install("--offline", "wheels")
    assert done.returncode == 0, done.stderr
    installs = [call for call in prepared.take_calls() if call.startswith("pip ")]
    assert all(" --no-index " in call for call in installs)
    wheels = prepared.elsewhere / "wheels"
    *_, ours, _model = installs
    assert ours.endswith(f"--find-links {wheels} "
                                 f"{wheels}/llama_cpp_python-1.2.3-py3-none-any.whl "
                                 f"{wheels}/appliance-0.1.0-py3-none-any.whl")  # fmt: skip
    assert "up to date" in prepared.install("--offline", "wheels").stdout
    assert pip_verbs(prepared.take_calls()) == []


def test_another_wheel_of_ours_is_installed_without_a_new_version(prepared: Machine) -> None:
    prepared.install("--offline", "wheels")
    prepared.take_calls()
    (prepared.elsewhere / "wheels" / "appliance-0.1.0-py3-none-any.whl").write_text("newer sources")
    prepared.install("--offline", "wheels")
    assert "--force-reinstall" in prepared.take_calls()[0]


def test_a_cpu_with_less_is_refused_and_one_with_more_is_not(prepared: Machine) -> None:
    prepared.write("proc/cpuinfo", CPUINFO.replace(" avx2 f16c", ""))
    failed = prepared.install("--offline", "wheels")
    assert failed.returncode == 1
    assert "with instructions that this one lacks: avx2 f16c." in failed.stderr
    prepared.write("proc/cpuinfo", CPUINFO.replace("avx2", "avx2 avx512f"))
    assert prepared.install("--offline", "wheels").returncode == 0


def test_a_build_for_every_cpu_goes_anywhere(machine: Machine) -> None:
    machine.install("--download", "wheels", CMAKE_ARGS="-DGGML_NATIVE=OFF")
    machine.write("proc/cpuinfo", CPUINFO.replace(" avx2", ""))
    assert machine.install("--offline", "wheels").returncode == 0


def test_another_architecture_is_refused(prepared: Machine) -> None:
    prepared.pretend("Linux", "riscv64")
    assert "but this machine is riscv64." in prepared.install("--offline", "wheels").stderr


def test_another_python_is_refused(prepared: Machine) -> None:
    manifest = prepared.elsewhere / "wheels" / "appliance-wheels.txt"
    manifest.write_text(manifest.read_text().replace(f"python {MINOR}", "python 3.99"))
    failed = prepared.install("--offline", "wheels")
    assert failed.returncode == 1
    assert (
        f"The wheels were prepared for Python 3.99, but python3 is Python {MINOR}." in failed.stderr
    )


def test_an_unfinished_folder_is_refused(prepared: Machine) -> None:
    (prepared.elsewhere / "wheels" / "appliance-wheels.txt").unlink()
    failed = prepared.install("--offline", "wheels")
    assert failed.returncode == 1
    assert "does not contain appliance-wheels.txt" in failed.stderr
    assert prepared.install("--offline", "nowhere").returncode == 1
