"""The licences of Python packages, as SPDX expressions.

Knows how packages state them, and what ours mean by statements that SPDX does not know.
"""

from __future__ import annotations

from email.message import Message

from cyclonedx.spdx import fixup_id, is_expression

from release.target import NotMade

# Read in their licence files, for packages that state too little.
KNOWN = {
    "exceptiongroup": "MIT AND PSF-2.0",
    "jinja2": "BSD-3-Clause",
    "numpy": "BSD-3-Clause",
    "uvloop": "Apache-2.0 OR MIT",
}

CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}


def licence_of(name: str, metadata: Message) -> str:
    """The SPDX expression of package `name` with this METADATA.

    Raises `NotMade` if it states none that is understood.
    """
    for stated in (metadata["License-Expression"], KNOWN.get(name), metadata["License"]):
        if stated and (spdx := fixup_id(stated) or (stated if is_expression(stated) else None)):
            return str(spdx)
    classifiers = [
        CLASSIFIERS.get(classifier.rpartition(" :: ")[2])
        for classifier in metadata.get_all("Classifier", [])
        if classifier.startswith("License :: OSI Approved")
    ]
    if len(classifiers) == 1 and classifiers[0] is not None:
        return classifiers[0]
    raise NotMade(
        f"the licence of {name} {metadata['Version']} is not known: read it, "
        "and add it to KNOWN in release/sbom/licences.py"
    )
