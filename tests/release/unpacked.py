"""What a release in dist/ holds, unpacked for tests."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from release.target import CHECKOUT


def released_wheels(machine: str, *names: str) -> Path:
    """The folder of a release's wheels, with those of these packages; skips where it was
    not made.
    """
    found = sorted((CHECKOUT / "dist").glob(f"appliance-*-{machine}/wheels"))
    if not found or not all(any(found[-1].glob(f"{name}-*.whl")) for name in names):
        pytest.skip(f"there is no release: python -m release --machine {machine}")
    return found[-1]


def unpack_wheels(wheels: Path, names: tuple[str, ...], into: Path) -> None:
    """One of each name; of several, that for CPython 3.11."""
    for name in names:
        found = sorted(wheels.glob(f"{name}-*.whl"))
        chosen = next((path for path in found if "-cp311-" in path.name), found[0])
        with zipfile.ZipFile(chosen) as wheel:
            wheel.extractall(into)
