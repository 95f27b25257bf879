"""--prebuilt: a release installs without compiler, network and questions where it can
run, and says in words where it cannot.
"""

from __future__ import annotations

import pytest

from release import bundle
from release.llama_cpp.build import INPUTS
from release.target import Target
from tests.install.machine import Machine
from tests.release.conftest import make_target, small_wheel

GETCONF = '#!/bin/sh\n[ "$1" != GNU_LIBC_VERSION ] || { echo %s; exit %d; }\necho 2\n'


@pytest.fixture
def released(machine: Machine) -> Target:
    """A small release, and a machine without compilers that has it."""
    target = make_target(machine.elsewhere)
    for name in ("appliance", "llama_cpp_python", "a_model"):
        small_wheel(name).write(target.wheels)
    (target.wheels / INPUTS).write_text("CMAKE_ARGS=-DGGML_NATIVE=OFF\n")
    bundle.put_installer(target)
    bundle.write_manifest(target)
    bundle.write_sums(target)
    bundle.pack(target)
    machine.pretend("Linux", "x86_64")
    machine.add_program("getconf", GETCONF % ("glibc 2.34", 0))
    for compiler in ("cc", "c++"):
        (machine.bin / compiler).unlink()
    return target


def installs(machine: Machine) -> list[str]:
    return [call for call in machine.take_calls() if call.startswith("pip install")]


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_installs_from_it_alone_and_once(machine: Machine, released: Target, form: str) -> None:
    path = str(getattr(released, form))
    done = machine.install("--prebuilt", path)
    assert done.returncode == 0, done.stderr
    assert f"already built, in {path}" in done.stdout
    calls = installs(machine)
    assert [call.split()[-1].rpartition("/")[2] for call in calls] == [
        "appliance-1.0-py3-none-any.whl",
        "a-model==2.0",
    ]
    assert all(" --no-index " in call for call in calls)
    again = machine.install("--prebuilt", path)
    assert "is up to date" in again.stdout
    assert installs(machine) == []
    assert [path.name for path in (machine.home / ".cache" / "appliance").iterdir()] == ["logs"]


def test_its_own_pip_fills_the_environment(machine: Machine, released: Target) -> None:
    """Of which Python makes only the frame: Debian's has no pip for it."""
    small_wheel("pip").write(released.wheels)
    bundle.write_sums(released)
    done = machine.install("--prebuilt", str(released.folder))
    assert done.returncode == 0, done.stderr
    first, *_ = installs(machine)
    assert first.endswith(f"--no-index --no-deps {released.wheels}/pip-1.0-py3-none-any.whl")


def test_the_bundles_own_installer_needs_no_option(machine: Machine, released: Target) -> None:
    machine.checkout = released.folder
    done = machine.install("--prefix", str(machine.folder / "prefix"))
    assert done.returncode == 0, done.stderr
    assert (machine.folder / "prefix" / "bin" / "appliance").is_symlink()
    refused = machine.install("--cuda")
    assert "--prebuilt install wheels as they are" in refused.stderr


def test_a_changed_file_is_named_before_anything_is_made(
    machine: Machine, released: Target
) -> None:
    wheel = next(released.wheels.glob("appliance-*"))
    wheel.write_bytes(wheel.read_bytes() + b"more")
    failed = machine.install("--prebuilt", str(released.folder))
    assert failed.returncode == 1
    assert f"Not as they were released: wheels/{wheel.name} (" in failed.stderr
    assert machine.take_calls() == []
    wheel.unlink()
    assert f"wheels/{wheel.name}" in machine.install("--prebuilt", str(released.folder)).stderr


@pytest.mark.parametrize(
    ("getconf", "complaint"),
    [
        (GETCONF % ("glibc 2.31", 0), "need glibc 2.34 or newer, but this system has glibc 2.31."),
        (GETCONF % ("", 1), "such as Alpine's musl."),
    ],
)
def test_another_c_library_is_told(
    machine: Machine, released: Target, getconf: str, complaint: str
) -> None:
    machine.add_program("getconf", getconf)
    failed = machine.install("--prebuilt", str(released.archive))
    assert failed.returncode == 1
    assert complaint in failed.stderr
    assert "in a checkout: ./install.sh" in failed.stderr


def test_another_machine_or_python_is_told(machine: Machine, released: Target) -> None:
    machine.pretend("Linux", "aarch64")
    failed = machine.install("--prebuilt", str(released.folder))
    assert "Its wheels are for x86_64, but this machine is aarch64." in failed.stderr
    machine.pretend("Linux", "x86_64")
    for name in ("python3", *(f"python3.{minor}" for minor in range(10, 15))):
        machine.add_program(name, "#!/bin/sh\n[ $1 = - ] && echo 3.14 || echo 3.14.1 /usr\n")
    failed = machine.install("--prebuilt", str(released.folder))
    assert "for Python 3.10, 3.11, 3.12, 3.13, but python3 is Python 3.14." in failed.stderr


def test_what_is_no_release_is_told(machine: Machine, released: Target) -> None:
    (machine.elsewhere / "half.tar.gz").write_bytes(released.archive.read_bytes()[:2000])
    assert "it is not whole." in machine.install("--prebuilt", "half.tar.gz").stderr
    assert "is no bundle: it has no SHA256SUMS" in machine.install("--prebuilt", "nowhere").stderr
    assert list((machine.home / ".cache" / "appliance").iterdir()) == []


def test_no_amx_takes_one_back_end_away_and_its_absence_brings_it_back(
    machine: Machine, released: Target
) -> None:
    assert machine.install("--prebuilt", str(released.folder)).returncode == 0
    machine.take_calls()
    lib = machine.checkout / ".venv/lib/python3.11/site-packages/llama_cpp/lib"
    lib.mkdir(parents=True)
    backends = {"libggml-cpu-sapphirerapids.so", "libggml-cpu-zen4.so"}

    def install(*options: str) -> set[str]:
        for name in backends:  # as the wheel would, which is a fake
            (lib / name).touch()
        done = machine.install("--prebuilt", str(released.folder), *options)
        assert done.returncode == 0, done.stderr
        return {path.name for path in lib.iterdir()}

    assert install("--no-amx") == {"libggml-cpu-zen4.so"}
    machine.take_calls()
    assert install() == backends
    assert "llama_cpp_python-1.0" in installs(machine)[0]
