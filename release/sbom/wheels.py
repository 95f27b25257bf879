"""A folder of wheels as components: names, versions, licences, hashes.

Knows nothing of what is compiled into a wheel.
"""

from __future__ import annotations

import email
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from packageurl import PackageURL
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from release.sbom.component import Component, sha256
from release.sbom.licences import licence_of
from release.target import NotMade

METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
TEXT = re.compile(
    r"[^/]+\.dist-info/(?:licenses/(?P<path>.*[^/])|(?P<name>(?:LICEN[CS]E|COPYING|NOTICE|AUTHORS)[^/]*))",
    re.IGNORECASE,
)

# Wheels without a text, and ones of the same people that have it.
TEXT_IN = {"tokenizers": "huggingface-hub"}


def read_wheels(folder: Path) -> tuple[Component, ...]:
    """One component for each package and version, sorted by them: the wheels of several
    Pythons are one.

    Raises `NotMade` for one without a known licence or without its text.
    """
    paths: dict[tuple[str, Version], list[Path]] = {}
    for path in sorted(folder.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(path.name)
        paths.setdefault((name, version), []).append(path)
    found = [_component(name, paths[name, version]) for name, version in sorted(paths)]
    return tuple(_with_texts(found))


def _component(name: str, paths: list[Path]) -> Component:
    with zipfile.ZipFile(paths[0]) as wheel:
        names = wheel.namelist()
        (metadata_name,) = filter(METADATA.fullmatch, names)
        metadata = email.message_from_bytes(wheel.read(metadata_name))
        texts = {
            match["path"] or match["name"]: wheel.read(match[0])
            for match in filter(None, map(TEXT.fullmatch, names))
        }
    return Component(
        name=name,
        version=metadata["Version"],
        licence=licence_of(name, metadata),
        texts=texts,
        purl=PackageURL("pypi", name=name, version=metadata["Version"]),
        files={f"{path.parent.name}/{path.name}": sha256(path) for path in paths},
    )


def _with_texts(components: list[Component]) -> Iterator[Component]:
    for component in components:
        sources = (other for other in components if other.name == TEXT_IN.get(component.name))
        texts = component.texts or next((other.texts for other in sources), {})
        if not texts:
            raise NotMade(
                f"{component.name} {component.version} has no licence text in its wheel: say in "
                "TEXT_IN of release/sbom/wheels.py which package has the same"
            )
        yield replace(component, texts=texts)
