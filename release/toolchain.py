"""The compilers of a release, and what they may leave to the machine it runs on.

Knows Debian's names of them; knows no source.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from release.target import GLIBC, MACHINES, NotMade

# Of llama.cpp: the last whose static libstdc++, as Debian 12 has it, asks for no newer
# glibc (12's source of randomness wants 2.36), and the first that knows AVX-VNNI and AMX.
GCC = 11
# Of our kernels: the first that can compile them. They are linked with the other's libstdc++.
KERNELS_GCC = 12
# What every Linux with glibc has; anything else is inside the wheel.
SYSTEM_LIBRARIES = frozenset(
    {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1"}
    | {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
)
# Its libstdc++ is ours alone: the machine's may be older, and may be loaded already.
LINK_FLAGS = (
    "-static-libstdc++ -Wl,--exclude-libs,libstdc++.a -Wl,--build-id=none -Wl,--as-needed -s"
)
_NEEDED = re.compile(r"\(NEEDED\).*\[(.+)\]")
_VERSION = re.compile(r"Name: (GLIBC_[0-9.]+|GLIBCXX_\S+)")


@dataclass(frozen=True)
class Toolchain:
    """GCC for one kind of machine, which may be another than this one."""

    machine: str
    gcc: int = GCC

    @property
    def _prefix(self) -> str:
        return f"{self.machine}-linux-gnu-"

    @property
    def cc(self) -> str:
        return f"{self._prefix}gcc-{self.gcc}"

    @property
    def cxx(self) -> str:
        return f"{self._prefix}g++-{self.gcc}"

    def version(self) -> str:
        """As the compiler has it, with Debian's own number."""
        return _output([self.cxx, "--version"]).splitlines()[0]

    def library_folder(self) -> Path:
        """Where its static libstdc++ is."""
        return Path(_output([self.cxx, "-print-file-name=libstdc++.a"]).strip()).parent

    def openmp_runtime(self) -> Path:
        """libgomp.so.1, which all that is compiled shares. Raises `NotMade`."""
        path = Path(_output([self.cxx, "-print-file-name=libgomp.so.1"]).strip())
        if not path.is_absolute():
            raise NotMade(f"{self.cxx} has no libgomp.so.1")
        return path

    def check(self, libraries: Mapping[str, Path]) -> None:
        """Whether libraries, by their names, run wherever the release is to run: they
        need each other, the system's libraries, and no newer glibc. Raises `NotMade`.
        """
        for name, path in libraries.items():
            said = _output([f"{self._prefix}readelf", "--dynamic", "--version-info", str(path)])
            missing = set(_NEEDED.findall(said)) - SYSTEM_LIBRARIES - libraries.keys()
            newer = {version for version in _VERSION.findall(said) if not _is_there(version)}
            if missing or newer:
                wants = ", ".join(sorted(missing | newer))
                raise NotMade(f"{name} needs {wants}, which not every system has")


def find_toolchain(machine: str, gcc: int = GCC) -> Toolchain:
    """Raises `NotMade` where it is not installed."""
    assert machine in MACHINES
    toolchain = Toolchain(machine, gcc)
    if shutil.which(toolchain.cc) is None or shutil.which(toolchain.cxx) is None:
        package = f"g++-{gcc}-{machine.replace('_', '-')}-linux-gnu"
        raise NotMade(
            f"there is no {toolchain.cxx}; on Debian 12: apt-get install g++-{gcc} ({package} "
            "on a machine of another kind)"
        )
    return toolchain


def _is_there(version: str) -> bool:
    name, _, number = version.partition("_")
    return name == "GLIBC" and _numbers(number) <= _numbers(GLIBC)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
