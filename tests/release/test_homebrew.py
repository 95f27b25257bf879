"""The formula: filled in, whole, and Ruby. Homebrew itself was never asked."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from release.homebrew.formula import Resource, read_resources, render
from release.target import NotMade

INDEX = "https://index.example/packages"
RESOURCES = [Resource("one", f"{INDEX}/one-1.tar.gz", "11"), Resource("two", f"{INDEX}/two", "22")]


def package(name: str, *, sdist: bool, wheels: tuple[str, ...] = ()) -> dict[str, Any]:
    """As uv writes it into pylock.toml."""
    locked: dict[str, Any] = {"name": name, "version": "1"}
    if sdist:
        locked["sdist"] = {"url": f"{INDEX}/{name}-1.tar.gz", "hashes": {"sha256": "aa"}}
    if wheels:
        locked["wheels"] = [
            {"url": f"{INDEX}/{name}-1-{tag}.whl", "hashes": {"sha256": "bb"}} for tag in wheels
        ]
    return locked


@pytest.mark.parametrize(
    ("locked", "file", "digest"),
    [
        (package("a", sdist=True), "a-1.tar.gz", "aa"),
        (package("a", sdist=True, wheels=("cp312-abi3-macosx",)), "a-1.tar.gz", "aa"),
        (package("a", sdist=True, wheels=("py3-none-any",)), "a-1-py3-none-any.whl", "bb"),
        (package("a", sdist=False, wheels=("py3-none-any",)), "a-1-py3-none-any.whl", "bb"),
    ],
)
def test_a_wheel_for_every_machine_is_taken_else_the_sources(
    locked: dict[str, Any], file: str, digest: str
) -> None:
    expected = Resource("a", f"{INDEX}/{file}", digest)
    assert read_resources({"packages": [locked]}) == [expected]


def test_a_package_without_either_is_named() -> None:
    locked = package("closed", sdist=False, wheels=("cp312-abi3-macosx",))
    with pytest.raises(NotMade, match=r"^closed has neither sources nor a wheel"):
        read_resources({"packages": [locked]})


@pytest.fixture
def formula(tmp_path: Path) -> Path:
    archive = tmp_path / "appliance-0.9.0.tar.gz"
    archive.write_bytes(b"sources")
    path = tmp_path / "appliance.rb"
    path.write_text(render(RESOURCES, archive, "https://example.org/releases/"))
    return path


def test_it_names_our_sources_and_all_others(formula: Path) -> None:
    text = formula.read_text()
    digest = hashlib.sha256(b"sources").hexdigest()
    ours = f'  url "https://example.org/releases/appliance-0.9.0.tar.gz"\n  sha256 "{digest}"\n'
    assert ours in text
    for resource in RESOURCES:
        block = f'  resource "{resource.name}" do\n    url "{resource.url}"\n'
        assert f'{block}    sha256 "{resource.sha256}"\n  end\n' in text
    assert "$" not in text


def test_it_is_ruby(formula: Path) -> None:
    ruby = shutil.which("ruby")
    if ruby is None:
        pytest.skip("ruby is not here: apt-get install ruby")
    subprocess.run([ruby, "-c", formula], check=True, capture_output=True)
