"""Libraries of others are the bytes that their packages hold, with their licences."""

from __future__ import annotations

import hashlib
import re

from appliance.web.files import STATIC

VENDOR = STATIC / "vendor"
ROW = re.compile(
    r"^\| (?P<file>\S+) \| \S+ \| \d[\d.]* \| \S+ \| .* \(\[(?P<licence>[\w.]+)\]\([\w.]+\)\)"
    r" \| (?P<digest>[0-9a-f]{64}) \|$",
    re.MULTILINE,
)


def test_every_library_is_in_the_table_with_its_digest_and_licence() -> None:
    rows = list(ROW.finditer((VENDOR / "README.md").read_text(encoding="utf-8")))
    listed = {row["file"]: row["digest"] for row in rows}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")
    }
    assert listed == found
    licences = {row["licence"] for row in rows}
    assert {path.name for path in VENDOR.glob("*.LICENSE")} == licences
    assert all("opyright" in (VENDOR / name).read_text(encoding="utf-8") for name in licences)
