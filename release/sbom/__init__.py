"""What is in a bundle, for who must know it: sbom.cdx.json and LICENSES/.

Knows the order of its steps.
"""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path

from release.llama_cpp import source
from release.sbom.document import to_cyclonedx, write_licences
from release.sbom.inside import Sources, with_parts
from release.sbom.wheels import read_wheels
from release.target import Target


def make(target: Target) -> None:
    """Writes both into the bundle, by its wheels and the sources of llama-cpp-python.

    Raises `NotMade`, with its name, for a component without a known licence or text.
    """
    with tempfile.TemporaryDirectory(prefix="appliance-sbom-") as scratch:
        describe(target, Sources(source.unpack(Path(scratch))))


def describe(target: Target, sources: Sources) -> None:
    """Likewise, of a bundle that was made of these."""
    components = with_parts(read_wheels(target.wheels), sources, target.machine)
    write_licences(components, target.folder / "LICENSES")
    moment = datetime.datetime.fromtimestamp(target.epoch, datetime.timezone.utc)
    text = to_cyclonedx(components, target.version, moment)
    (target.folder / "sbom.cdx.json").write_text(text, encoding="utf-8")
