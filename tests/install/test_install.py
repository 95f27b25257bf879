"""install.sh from outside: what it builds, reuses, refuses and says."""

from __future__ import annotations

import re

import pytest

from tests.install.machine import CPUINFO, RPC, Machine, pip_verbs

# --- building and reusing -------------------------------------------------------------


def test_first_run_builds_and_the_second_has_nothing_to_do(machine: Machine) -> None:
    first = machine.install()
    assert first.returncode == 0, first.stderr
    calls = machine.take_calls()
    assert calls[0] == f"venv {machine.checkout}/.venv"
    assert pip_verbs(calls) == ["wheel", "install", "install"]
    assert calls[1].endswith(f"llama-cpp-python==1.2.3 CMAKE_ARGS={RPC}")
    assert calls[-1] == "appliance doctor --json"

    second = machine.install()
    assert second.returncode == 0, second.stderr
    assert "up to date" in second.stdout
    assert machine.take_calls() == []


def test_a_change_of_ours_installs_again_without_building(machine: Machine) -> None:
    machine.install()
    machine.take_calls()
    (machine.checkout / "appliance" / "file").write_text("changed")
    machine.install()
    calls = machine.take_calls()
    assert pip_verbs(calls) == ["install"]
    assert calls[0].endswith(f" {machine.checkout}")


def test_another_environment_reuses_the_wheel(machine: Machine) -> None:
    machine.install()
    machine.take_calls()
    machine.install("--venv", "relative name")
    calls = machine.take_calls()
    assert calls[0] == f"venv {machine.elsewhere}/relative name"
    assert pip_verbs(calls) == ["install", "install"]


def test_other_cmake_flags_are_another_wheel_and_replace_the_installed_one(
    machine: Machine,
) -> None:
    machine.install()
    machine.take_calls()
    machine.install(CMAKE_ARGS="-DGGML_AVX512=OFF")
    calls = machine.take_calls()
    assert pip_verbs(calls) == ["wheel", "install", "install"]
    assert "--force-reinstall" in calls[1]
    assert len(machine.wheels) == 2


def test_dev_installs_the_checkout_editable_with_its_tools(machine: Machine) -> None:
    machine.install("--dev", "--no-selftest")
    *_, project, checkpoints, _model = machine.take_calls()
    assert project.endswith(f" --editable {machine.checkout}[dev]")
    assert checkpoints.endswith(
        f" --no-deps --requirement {machine.checkout}/tests/embedding/checkpoints.txt"
    )


def test_the_wheel_is_keyed_by_what_the_cpu_can_do_not_by_its_clock(machine: Machine) -> None:
    def key(cpuinfo: str) -> str:
        machine.write("proc/cpuinfo", cpuinfo)
        return machine.plan()["llama.cpp"].rpartition("/")[2]

    assert key(CPUINFO) == key(CPUINFO.replace("800", "4200")) == key(CPUINFO + CPUINFO)
    assert key(CPUINFO) != key(CPUINFO.replace(" avx2", ""))
    assert key("CPU implementer\t: 0x41\nFeatures\t: fp asimd\n") not in ("", key(CPUINFO))


# --- failing --------------------------------------------------------------------------


def test_a_failing_build_names_the_step_shows_its_log_and_leaves_no_wheel(machine: Machine) -> None:
    failed = machine.install(FAKE_BUILD_FAILS="no such instruction")
    assert failed.returncode == 1
    assert "error: no such instruction" in failed.stderr
    assert "install.sh failed: Build llama.cpp for this machine" in failed.stderr
    assert machine.wheels == []
    assert pip_verbs(machine.take_calls()) == ["wheel"]

    assert machine.install().returncode == 0


def test_a_failing_step_fails_verbosely_too(machine: Machine) -> None:
    failed = machine.install("--verbose", FAKE_BUILD_FAILS="no such instruction")
    assert failed.returncode == 1
    assert "error: no such instruction" in failed.stdout


def test_a_failing_self_test_fails_the_installation(machine: Machine) -> None:
    failed = machine.install(FAKE_DOCTOR_STATUS="7")
    assert failed.returncode == 1
    assert "install.sh failed: Check that this machine computes correctly" in failed.stderr
    assert "exit status 7" in failed.stderr


def test_a_folder_that_is_no_environment_is_left_alone(machine: Machine) -> None:
    (machine.elsewhere / "thesis.tex").write_text("years of work")
    failed = machine.install("--venv", str(machine.elsewhere))
    assert failed.returncode == 1
    assert "is not a virtual environment" in failed.stderr
    assert (machine.elsewhere / "thesis.tex").read_text() == "years of work"


def test_a_broken_compiler_is_told_before_anything_is_made(machine: Machine) -> None:
    machine.add_program("c++", "#!/bin/sh\necho no libstdc++ >&2; exit 1\n")
    failed = machine.install()
    assert failed.returncode == 1
    assert "c++ cannot build a small C++ program: no libstdc++" in failed.stderr
    assert not (machine.checkout / ".venv").exists()


def test_a_compiler_is_not_asked_for_when_the_wheel_is_there(machine: Machine) -> None:
    machine.install()
    machine.add_program("cc", "#!/bin/sh\nexit 1\n")
    assert machine.install("--dev").returncode == 0


@pytest.mark.parametrize(
    ("status", "complaint"),
    [(3, "No Python 3.10 or newer was found. (python3 is Python 3.9.)"), (4, "no venv module")],
)
def test_an_unfit_python_is_named(machine: Machine, status: int, complaint: str) -> None:
    for name in ("python3", *(f"python3.{minor}" for minor in range(10, 15))):
        machine.add_program(name, f"#!/bin/sh\necho 3.9\nexit {status}\n")
    failed = machine.install()
    assert failed.returncode == 1
    assert complaint in failed.stderr


def test_another_python_is_found_where_the_first_is_unfit(machine: Machine) -> None:
    (machine.bin / "python3").rename(machine.bin / "python3.10")
    for name in ("python3", *(f"python3.{minor}" for minor in range(11, 15))):
        machine.add_program(name, "#!/bin/sh\necho 3.9\nexit 3\n")
    assert machine.call("detect_python").stdout.strip() == str(machine.bin / "python3.10")


def test_a_named_python_is_the_only_one_tried(machine: Machine) -> None:
    failed = machine.install(PYTHON="/nowhere/python")
    assert failed.returncode == 1
    assert "PYTHON=/nowhere/python is not a usable Python 3.10 or newer." in failed.stderr


def test_another_system_is_refused(machine: Machine) -> None:
    machine.add_program("uname", "#!/bin/sh\necho Plan9\n")
    failed = machine.install()
    assert failed.returncode == 1
    assert "This installer supports Linux and macOS, but not Plan9." in failed.stderr


def test_an_unpinned_version_is_refused(machine: Machine) -> None:
    (machine.checkout / "pyproject.toml").write_text('dependencies = ["llama-cpp-python>=1"]\n')
    failed = machine.install()
    assert failed.returncode == 1
    assert "install.sh failed: Read pyproject.toml" in failed.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--gpu"],
        ["--venv"],
        ["--venv", ""],
        ["--prefix", "a", "--venv", "b"],
        ["--cpu", "--cuda"],
        ["--offline", "a", "--dev"],
    ],
)
def test_bad_options_change_nothing(machine: Machine, options: list[str]) -> None:
    failed = machine.install(*options)
    assert failed.returncode == 1
    assert "install.sh failed: Read the options" in failed.stderr
    assert machine.take_calls() == []


@pytest.mark.parametrize(
    ("manager", "need", "command"),
    [
        ("apt-get", "compiler", "apt-get install gcc g++"),
        ("apt-get", "venv 3.11", "apt-get install python3.11-venv"),
        ("dnf", "compiler", "dnf install gcc gcc-c++"),
        ("pacman", "compiler", "pacman -S gcc"),
        ("apk", "compiler", "apk add build-base linux-headers"),
        ("zypper", "venv 3.12", "zypper install python312"),
    ],
)
def test_the_exact_package_is_named(
    machine: Machine, manager: str, need: str, command: str
) -> None:
    said = machine.call(
        f"detect_package_manager() {{ echo {manager}; }}; install_hint {need}"
    ).stdout
    assert said.strip() in (f"Install it with: {command}", f"Install it with: sudo {command}")


# --- options --------------------------------------------------------------------------


def test_a_prefix_gets_the_environment_and_links(machine: Machine) -> None:
    done = machine.install("--prefix", "my tools")
    assert done.returncode == 0, done.stderr
    prefix = machine.elsewhere / "my tools"
    assert (
        prefix / "bin" / "appliance"
    ).readlink() == prefix / "lib" / "appliance" / "bin" / "appliance"
    assert (prefix / "bin" / "appliance-convert").exists()
    assert f"{prefix}/bin/appliance serve" in done.stdout
    assert not (machine.checkout / ".venv").exists()

    machine.take_calls()
    assert "up to date" in machine.install("--prefix", "my tools").stdout
    assert pip_verbs(machine.take_calls()) == []


def test_somebody_elses_program_is_not_linked_over(machine: Machine) -> None:
    (machine.elsewhere / "bin").mkdir()
    (machine.elsewhere / "bin" / "appliance").write_text("a program for a washing machine")
    failed = machine.install("--prefix", ".")
    assert failed.returncode == 1
    assert "exists but was not created by install.sh" in failed.stderr
    assert (
        machine.elsewhere / "bin" / "appliance"
    ).read_text() == "a program for a washing machine"


def test_an_environment_of_another_python_is_made_anew(machine: Machine) -> None:
    machine.install()
    machine.take_calls()
    other = (
        (machine.bin / "python3")
        .read_text()
        .replace("    *) exec", '    "-I -c import os"*) echo 3.98.0 /o ;;\n    *) exec')
    )
    machine.add_program("python3.98", other)
    again = machine.install("--verbose", PYTHON="python3.98")
    assert again.returncode == 0, again.stderr
    assert "instead of 3.98.0 /o" in again.stdout
    assert machine.take_calls()[0] == f"venv {machine.checkout}/.venv"


def test_no_amx_is_another_wheel_with_the_users_own_flags(machine: Machine) -> None:
    machine.pretend("Linux", "x86_64")
    machine.install()
    machine.take_calls()
    done = machine.install("--no-amx", CFLAGS="-O2", CMAKE_ARGS="-DGGML_OPENMP=OFF")
    assert done.returncode == 0, done.stderr
    flags = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    assert machine.take_calls()[0].endswith(
        f"CMAKE_ARGS={RPC} '-DCMAKE_C_FLAGS=-O2 {flags}' '-DCMAKE_CXX_FLAGS={flags}' "
        "-DGGML_OPENMP=OFF"
    )
    assert len(machine.wheels) == 2


def test_no_amx_needs_a_processor_that_could_have_it(machine: Machine) -> None:
    machine.pretend("Linux", "aarch64")
    assert (
        "--no-amx is for x86-64 only; this machine is aarch64."
        in machine.install("--no-amx").stderr
    )


@pytest.mark.parametrize(("options", "advised"), [((), True), (("--no-amx",), False)])
def test_the_doctors_advice_is_passed_on(
    machine: Machine, options: tuple[str, ...], advised: bool
) -> None:
    machine.pretend("Linux", "x86_64")
    done = machine.install(*options, FAKE_ADVISED="true")
    assert done.returncode == 0, done.stderr
    assert ("run install.sh again with --no-amx" in done.stdout) is advised


def test_a_dry_run_changes_nothing(machine: Machine) -> None:
    plan = machine.plan("--prefix", "/p")
    assert plan["installs"] == "to /p/lib/appliance"
    assert "will be built" in plan["llama.cpp"]
    assert machine.take_calls() == []
    assert list(machine.home.iterdir()) == []


def test_bash_of_macos_can_read_every_part(machine: Machine) -> None:
    """What bash 3.2 does not know: it is the newest that macOS has."""
    newer = (
        r"\$\{[a-z_]*(\^|,)|mapfile|readarray|declare -A|local -n|printf '%\(|;;&|&>>|\|&|wait -n"
    )
    parts = [machine.checkout / "install.sh", *(machine.checkout / "install").iterdir()]
    assert [
        line for part in parts for line in part.read_text().splitlines() if re.search(newer, line)
    ] == []


def test_nothing_fails_without_a_word(machine: Machine) -> None:
    machine.add_program("sort", "#!/bin/sh\nexit 5\n")
    failed = machine.install()
    assert failed.returncode != 0
    assert "install.sh failed unexpectedly (status 5)" in failed.stderr
