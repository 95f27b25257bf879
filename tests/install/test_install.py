"""install.sh from outside: what it builds, reuses, refuses and says. Knows pip and compilers only as the fakes below.

A stand-in for Python answers `-m venv` and `-m pip` in milliseconds and notes each call, so whole installations run
without network and compiler; everything else it is asked it hands to the real interpreter.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

INSTALLER = Path(__file__).parents[2] / "install.sh"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("bash") is None, reason="install.sh is for Linux, and needs bash"
)

FAKE_PYTHON = r"""#!/usr/bin/env bash
note() { echo "$*" >>"$FAKE_CALLS"; }
case "$1 ${2:-} ${3:-}" in
    "-m venv "*)
        dir=${!#}
        note "venv $dir"
        mkdir -p "$dir/bin" && touch "$dir/pyvenv.cfg" && cp "$0" "$dir/bin/python" ;;
    "-m pip --version") echo "pip 99" ;;
    "-m pip wheel")
        note "pip ${*:3}"
        echo "compiling" && [[ -z "${FAKE_BUILD_FAILS:-}" ]] || { echo "error: $FAKE_BUILD_FAILS"; exit 1; }
        while [[ $1 != --wheel-dir ]]; do shift; done
        touch "$2/llama_cpp_python-1.2.3-py3-none-any.whl" ;;
    "-m pip install")
        note "pip ${*:3}"
        touch "${0%/*}/appliance" && chmod +x "${0%/*}/appliance" ;;
    "-m appliance.llama.selftest ") note "selftest"; exit "${FAKE_SELFTEST_STATUS:-0}" ;;
    *) exec REAL_PYTHON "$@" ;;
esac
"""


class Machine:
    """A scratch checkout, home and PATH in which install.sh runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checkout = root / "my checkout"
        self.bin = root / "bin"
        self.calls_file = root / "calls"
        self.elsewhere = root / "elsewhere"
        for folder in (self.checkout, self.bin, self.elsewhere):
            folder.mkdir()
        self.calls_file.touch()
        shutil.copy(INSTALLER, self.checkout)
        for name in ("appliance", "convert", "models"):
            (self.checkout / name).mkdir()
            (self.checkout / name / "file").write_text(name)
        (self.checkout / "pyproject.toml").write_text('dependencies = [\n    "llama-cpp-python==1.2.3",\n]\n')
        self.add_program("python3", FAKE_PYTHON.replace("REAL_PYTHON", f"'{sys.executable}'"))
        for compiler in ("cc", "c++"):
            self.add_program(compiler, "#!/bin/sh\ncat >/dev/null\n")

    def add_program(self, name: str, source: str) -> None:
        (self.bin / name).write_text(source)
        (self.bin / name).chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.root / "home"), "FAKE_CALLS": str(self.calls_file)}

    @property
    def wheels(self) -> list[Path]:
        return sorted((self.root / "home" / ".cache" / "appliance" / "wheels").iterdir())

    def install(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._run([str(self.checkout / "install.sh"), *options], environment)

    def call(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs `script` with install.sh's functions defined."""
        source = f'set +u; source "{self.checkout}/install.sh"; {script}'
        return self._run(["bash", "-c", source], environment)

    def _run(self, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        (self.root / "home").mkdir(exist_ok=True)
        return subprocess.run(
            command,
            env=self.environment | environment,
            cwd=self.elsewhere,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def take_calls(self) -> list[str]:
        """What the fakes were asked since the last time."""
        calls = self.calls_file.read_text().splitlines()
        self.calls_file.write_text("")
        return calls


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def pip_verbs(calls: list[str]) -> list[str]:
    return [call.split()[1] for call in calls if call.startswith("pip ")]


# --- building and reusing ------------------------------------------------------------------------------------------


def test_first_run_builds_and_the_second_has_nothing_to_do(machine: Machine) -> None:
    first = machine.install()
    assert first.returncode == 0, first.stderr
    calls = machine.take_calls()
    assert calls[0] == f"venv {machine.checkout}/.venv"
    assert pip_verbs(calls) == ["wheel", "install", "install"]
    assert calls[1].endswith("llama-cpp-python==1.2.3")
    assert calls[-1] == "selftest"

    second = machine.install()
    assert second.returncode == 0, second.stderr
    assert "up to date" in second.stdout
    assert machine.take_calls() == ["selftest"]


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


def test_other_cmake_flags_are_another_wheel_and_replace_the_installed_one(machine: Machine) -> None:
    machine.install()
    machine.take_calls()
    machine.install(CMAKE_ARGS="-DGGML_AVX512=OFF")
    calls = machine.take_calls()
    assert pip_verbs(calls) == ["wheel", "install", "install"]
    assert "--force-reinstall" in calls[1]
    assert len(machine.wheels) == 2


def test_dev_installs_the_checkout_editable_with_its_tools(machine: Machine) -> None:
    machine.install("--dev", "--no-selftest")
    assert machine.take_calls()[-1].endswith(f" --editable {machine.checkout}[dev]")


def test_the_wheel_is_keyed_by_what_the_cpu_can_do_not_by_its_clock(machine: Machine, tmp_path: Path) -> None:
    def key(text: str) -> str:
        (tmp_path / "cpuinfo").write_text(text)
        return machine.call(f'detect_cpu "{tmp_path}/cpuinfo"').stdout

    cpu = "processor\t: 0\nmodel name\t: A\ncpu MHz\t\t: 800\nflags\t\t: avx avx2\n"
    assert key(cpu) == key(cpu.replace("800", "4200")) == key(cpu + cpu) != ""
    assert key(cpu) != key(cpu.replace(" avx2", ""))
    assert key("CPU implementer\t: 0x41\nFeatures\t: fp asimd\n") != ""


# --- failing -------------------------------------------------------------------------------------------------------


def test_a_failing_build_names_the_step_shows_its_log_and_leaves_no_wheel(machine: Machine) -> None:
    failed = machine.install(FAKE_BUILD_FAILS="no such instruction")
    assert failed.returncode == 1
    assert "error: no such instruction" in failed.stderr
    assert "install.sh failed: Build llama.cpp for this CPU" in failed.stderr
    assert machine.wheels == []
    assert pip_verbs(machine.take_calls()) == ["wheel"]

    assert machine.install().returncode == 0


def test_a_failing_step_fails_verbosely_too(machine: Machine) -> None:
    failed = machine.install("--verbose", FAKE_BUILD_FAILS="no such instruction")
    assert failed.returncode == 1
    assert "error: no such instruction" in failed.stdout


def test_a_failing_self_test_fails_the_installation(machine: Machine) -> None:
    failed = machine.install(FAKE_SELFTEST_STATUS="7")
    assert failed.returncode == 1
    assert "install.sh failed: Check that this CPU computes right" in failed.stderr
    assert "exit status 7" in failed.stderr


def test_a_folder_that_is_no_environment_is_left_alone(machine: Machine) -> None:
    (machine.elsewhere / "thesis.tex").write_text("years of work")
    failed = machine.install("--venv", str(machine.elsewhere))
    assert failed.returncode == 1
    assert "is no virtual environment" in failed.stderr
    assert (machine.elsewhere / "thesis.tex").read_text() == "years of work"


def test_a_broken_compiler_is_told_before_anything_is_made(machine: Machine) -> None:
    machine.add_program("c++", "#!/bin/sh\nexit 1\n")
    failed = machine.install()
    assert failed.returncode == 1
    assert "c++ cannot build a small C++ program." in failed.stderr
    assert not (machine.checkout / ".venv").exists()


def test_a_compiler_is_not_asked_for_when_the_wheel_is_there(machine: Machine) -> None:
    machine.install()
    machine.add_program("cc", "#!/bin/sh\nexit 1\n")
    assert machine.install("--dev").returncode == 0


@pytest.mark.parametrize(
    ("status", "complaint"), [(3, "There is no Python 3.10 or newer. (python3 is Python 3.9.)"), (4, "no venv module")]
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
    assert "PYTHON=/nowhere/python is no usable Python 3.10 or newer." in failed.stderr


def test_another_system_is_refused(machine: Machine) -> None:
    machine.add_program("uname", "#!/bin/sh\necho Plan9\n")
    failed = machine.install()
    assert failed.returncode == 1
    assert "This installer knows Linux; here is Plan9." in failed.stderr


def test_an_unpinned_version_is_refused(machine: Machine) -> None:
    (machine.checkout / "pyproject.toml").write_text('dependencies = ["llama-cpp-python>=1"]\n')
    failed = machine.install()
    assert failed.returncode == 1
    assert "install.sh failed: Read pyproject.toml" in failed.stderr


@pytest.mark.parametrize("options", [["--gpu"], ["--venv"], ["--venv", ""]])
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
def test_the_exact_package_is_named(machine: Machine, manager: str, need: str, command: str) -> None:
    said = machine.call(f"detect_package_manager() {{ echo {manager}; }}; install_hint {need}").stdout
    assert said.strip() in (f"Install it with: {command}", f"Install it with: sudo {command}")
