"""Wheels of other people that the appliance needs, for each Python, and the model's.

Knows the list in dependencies.txt, whose versions and sums are fixed, and how pip is
asked for another machine's wheels. Builds nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from release.pip import run_pip
from release.target import GLIBC, PYTHONS, NotMade, Target, read_toml

LIST = Path(__file__).with_name("dependencies.txt")
# install.sh runs it out of its wheel, to fill an environment that was made without.
_INSTALLER = (
    "pip==25.3 --hash=sha256:9655943313a94722b7774661c21049070f6bbb0a1516bf02f7c8d5d9201514cd"
)
_BUILT_BY_US = ("appliance", "llama_cpp_python")


def collect(target: Target) -> None:
    """Raises `NotMade` where one has no wheel for a Python or machine."""
    target.wheels.mkdir(parents=True, exist_ok=True)
    for old in target.wheels.glob("*.whl"):
        if not old.name.startswith(_BUILT_BY_US):
            old.unlink()
    for python in PYTHONS:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("\n".join([*find_wanted(python, target.machine), _INSTALLER]) + "\n")
            file.flush()
            _download(target, python, ["--require-hashes", "--requirement", file.name])
    _download(target, PYTHONS[0], [_model_package()])


def find_wanted(python: str, machine: str) -> Iterator[str]:
    """Packages with version and sums, a line each, that some release of `python` on a
    Linux machine needs. Without the markers, which pip would judge by its own Python.
    """
    environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_version": python,
        "sys_platform": "linux",
    }
    for line in LIST.read_text().replace("\\\n", " ").splitlines():
        if line.startswith("#"):
            continue
        text, *sums = line.split("--hash=")
        package = Requirement(text)
        if package.name.replace("-", "_") in _BUILT_BY_US:
            continue
        if package.marker is None or any(
            package.marker.evaluate(environment | {"python_full_version": f"{python}.{patch}"})
            for patch in (0, 99)
        ):
            hashes = (f"--hash={digest.strip()}" for digest in sums)
            yield " ".join([f"{package.name}{package.specifier}", *hashes])


def _download(target: Target, python: str, what: list[str]) -> None:
    command = ["download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(target.wheels), "--implementation", "cp", "--python-version", python]
    for abi in (f"cp{python.replace('.', '')}", "abi3", "none"):
        command += ["--abi", abi]
    for platform in _platforms(target.machine):
        command += ["--platform", platform]
    run_pip([*command, *what])


def _platforms(machine: str) -> Iterator[str]:
    """Those that the oldest glibc of a release satisfies, the newest first."""
    major, newest = (int(part) for part in GLIBC.split("."))
    for minor in range(newest, 4, -1):
        yield f"manylinux_{major}_{minor}_{machine}"
    yield f"manylinux2014_{machine}"


def _model_package() -> str:
    models = read_toml("models/catalog.toml")["model"]
    packages = [model["package"] for model in models if "package" in model]
    if len(packages) != 1:
        raise NotMade(f"models/catalog.toml should have one packaged model, not {len(packages)}")
    return str(packages[0])
