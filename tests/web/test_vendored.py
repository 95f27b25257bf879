"""Libraries of others are the bytes that their packages hold, with their licences."""

from __future__ import annotations

import hashlib

from release.sbom.inside import VENDOR, VENDORED


def test_every_library_is_in_the_table_with_its_digest_and_licence() -> None:
    rows = list(VENDORED.finditer((VENDOR / "README.md").read_text(encoding="utf-8")))
    listed = {row["file"]: row["sha256"] for row in rows}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")
    }
    assert listed == found
    licences = {row["text"] for row in rows}
    assert {path.name for path in VENDOR.glob("*.LICENSE")} == licences
    assert all("opyright" in (VENDOR / name).read_text(encoding="utf-8") for name in licences)
