"""A release of a few small wheels."""

from __future__ import annotations

from pathlib import Path

import pytest

from release.target import Target
from release.wheel import Wheel, WheelFile


def make_target(out: Path) -> Target:
    return Target(version="0.1.0", machine="x86_64", out=out, epoch=1_700_000_000)


def small_wheel(name: str, tag: str = "py3-none-any") -> Wheel:
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
    files = {
        f"{name}/__init__.py": WheelFile(b"ANSWER = 42\n"),
        f"{name}-1.0.dist-info/METADATA": WheelFile(metadata),
    }
    return Wheel(name=name, version="1.0", tag=tag, files=files).retagged(tag)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """With the wheels that a bundle must have, and one more."""
    target = make_target(tmp_path / "dist")
    for name in ("appliance", "llama_cpp_python", "other"):
        small_wheel(name).write(target.wheels)
    return target
