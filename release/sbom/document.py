"""Components as a CycloneDX 1.6 document, and as a folder of licence texts.

Knows these two forms; knows nothing of wheels and sources.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component as Described
from cyclonedx.model.component import ComponentType
from cyclonedx.output.json import JsonV1Dot6

from release.sbom.component import Component


def to_cyclonedx(components: Sequence[Component], version: str, moment: datetime.datetime) -> str:
    """The JSON of a bundle of this version; the same input gives the same text."""
    described = [_describe(component) for component in components]
    bundle = Described(
        name="appliance-bundle", version=version, type=ComponentType.APPLICATION, bom_ref="bundle"
    )
    hashes = sorted(digest for component in components for digest in component.files.values())
    document = Bom(
        components=described,
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, " ".join([version, *hashes])),
        metadata=BomMetaData(component=bundle, timestamp=moment),
    )
    document.register_dependency(bundle, described)
    return JsonV1Dot6(document).output_as_string(indent=2) + "\n"


def _describe(component: Component, whole: str = "") -> Described:
    reference = f"{whole}/{component.name}" if whole else component.reference
    return Described(
        name=component.name,
        version=component.version,
        type=ComponentType.MACHINE_LEARNING_MODEL if component.is_model else ComponentType.LIBRARY,
        bom_ref=reference,
        purl=component.purl,
        licenses=[LicenseFactory().make_from_string(component.licence)],
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(path),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
            )
            for path, digest in component.files.items()
        ],
        components=[_describe(part, reference) for part in component.parts],
    )


def write_licences(components: Sequence[Component], folder: Path) -> None:
    """folder/NAME-VERSION/..., for parts too: NAME-VERSION/PART/..."""
    for component in components:
        name = "-".join(filter(None, (component.name, component.version)))
        _write_texts(component.texts, folder / name)
        write_licences(component.parts, folder / name)


def _write_texts(texts: Mapping[str, bytes], folder: Path) -> None:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
