"""The formula and the sources that it builds from: ours, and the same versions of
everything else that the bundle has, as PyPI has them.

Knows uv's lock files. Where PyPI has a wheel for every machine, that is taken, as it needs
no tools; else the sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from uv import find_uv_bin

from appliance.store.catalog import load_catalog
from release import dependencies
from release.pip import BUILD_TOOLS
from release.sbom.component import sha256
from release.target import CHECKOUT, NotMade, Target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYTHON = "3.12"
PLATFORM = "aarch64-apple-darwin"
TEMPLATE = Path(__file__).with_name("appliance.rb")


@dataclass(frozen=True)
class Resource:
    """A file that Homebrew fetches and hands to pip."""

    name: str
    url: str
    sha256: str


def make(target: Target) -> None:
    """appliance-VERSION.tar.gz, and appliance.rb for it where it is known from where it
    will be downloaded.

    Raises `NotMade` where uv fails or a package has neither sources nor a wheel for all.
    """
    archive = make_sources(target)
    if target.url is None:
        print("  note  no formula for Homebrew: it needs --url")
        return
    model = load_catalog(CHECKOUT / "models" / "catalog.toml").default.packaged
    assert model is not None
    lock = _lock([dependencies.LIST.read_text(encoding="utf-8"), model.package])
    formula = render(read_resources(lock), archive, target.url)
    (target.out / "appliance.rb").write_text(formula, encoding="utf-8")


def make_sources(target: Target) -> Path:
    """Of the appliance, as this checkout has them."""
    name = f"appliance-{target.version}.tar.gz"
    command: list[str | Path] = ["build", "--quiet", "--sdist", "--build-constraint", BUILD_TOOLS]
    with tempfile.TemporaryDirectory(prefix="appliance-sources-") as scratch:
        # not into the folder itself, where it would leave a .gitignore
        _run_uv([*command, "--out-dir", scratch, CHECKOUT], SOURCE_DATE_EPOCH=str(target.epoch))
        return Path(shutil.copy(Path(scratch) / name, target.out))


def read_resources(lock: dict[str, Any]) -> list[Resource]:
    """One for each package of a pylock.toml."""
    return [_resource(package) for package in lock["packages"]]


def _resource(package: dict[str, Any]) -> Resource:
    wheels = [wheel for wheel in package.get("wheels", []) if _is_for_all(wheel["url"])]
    files = [*wheels, *([package["sdist"]] if "sdist" in package else [])]
    if not files:
        raise NotMade(f"{package['name']} has neither sources nor a wheel for every machine")
    return Resource(package["name"], files[0]["url"], files[0]["hashes"]["sha256"])


def _is_for_all(url: str) -> bool:
    return str(url).endswith("-py3-none-any.whl")  # what Homebrew takes for one


def render(resources: Sequence[Resource], archive: Path, url: str) -> str:
    """The formula; `url` is the folder that `archive` will be downloaded from."""
    blocks = [
        f'  resource "{each.name}" do\n    url "{each.url}"\n    sha256 "{each.sha256}"\n  end\n'
        for each in resources
    ]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        url=url.rstrip("/"),
        archive=archive.name,
        sha256=sha256(archive),
        python=PYTHON,
        resources="\n".join(blocks),
    )


def _lock(requirements: Sequence[str]) -> dict[str, Any]:
    """Where PyPI has these, for a Mac: nothing is resolved, as the list is whole."""
    with tempfile.TemporaryDirectory(prefix="appliance-formula-") as scratch:
        listed, locked = Path(scratch) / "requirements.txt", Path(scratch) / "pylock.toml"
        listed.write_text("\n".join(requirements), encoding="utf-8")
        command = ["pip", "compile", "--quiet", "--no-deps", "--python-version", PYTHON]
        _run_uv([*command, "--python-platform", PLATFORM, "--output-file", locked, listed])
        lock: dict[str, Any] = tomllib.loads(locked.read_text(encoding="utf-8"))
        return lock


def _run_uv(arguments: Sequence[str | Path], **environment: str) -> None:
    done = subprocess.run([find_uv_bin(), *arguments], env=os.environ | environment, check=False)
    if done.returncode != 0:
        raise NotMade(f"uv {arguments[0]} failed")
