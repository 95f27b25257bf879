"""What is to be released, for which machine, and where it is put.

Knows names and places; makes nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = Path(__file__).resolve().parents[1]
MACHINES = ("x86_64", "aarch64")  # as `uname -m` says
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# The oldest whose libstdc++ and libgomp the compiler's own need: docs/decisions/0049.
GLIBC = "2.34"


class NotMade(Exception):
    """Why there is no release, in a sentence for whoever makes it."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One release for one kind of machine."""

    version: str
    machine: str
    out: Path  # holds everything that is made
    epoch: int  # seconds since 1970: the date of every file inside
    url: str | None = None  # the folder that people will download from

    @property
    def name(self) -> str:
        return f"appliance-{self.version}-linux-{self.machine}"

    @property
    def folder(self) -> Path:
        """The bundle: what the archive unpacks to."""
        return self.out / self.name

    @property
    def wheels(self) -> Path:
        return self.folder / "wheels"

    @property
    def archive(self) -> Path:
        return self.out / f"{self.name}.tar.gz"

    @property
    def platform(self) -> str:
        """The tag of wheels with compiled files of ours."""
        return f"manylinux_{GLIBC.replace('.', '_')}_{self.machine}"


def read_toml(name: str) -> dict[str, Any]:
    """A file of the checkout."""
    table: dict[str, Any] = tomllib.loads((CHECKOUT / name).read_text(encoding="utf-8"))
    return table


def pinned_version(package: str) -> str:
    """What pyproject.toml pins `package` to, exactly."""
    for requirement in read_toml("pyproject.toml")["project"]["dependencies"]:
        name, _, version = requirement.partition("==")
        if name == package and version:
            return str(version)
    raise NotMade(f"pyproject.toml pins no version of {package}")


def read_epoch() -> int:
    """SOURCE_DATE_EPOCH, else the time of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    command = ["git", "-C", str(CHECKOUT), "log", "-1", "--format=%ct"]
    try:
        return int(subprocess.run(command, capture_output=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotMade(
            "the date is not known: this is no git checkout; set SOURCE_DATE_EPOCH"
        ) from error


def cache_folder() -> Path:
    """Where what takes long is kept, under a key of all that it was made from."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "appliance" / "release"
