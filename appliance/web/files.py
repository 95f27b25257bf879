"""The page's files, as they lie in the package: their bytes, types and digests.

Knows no HTTP and no route.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

STATIC = Path(__file__).parent / "static"
PAGE = "index.html"
# Of what is served; whatever else lies there, such as licences, is for readers of the source.
_MEDIA_TYPES: Mapping[str, str] = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class PageFile:
    """`path` is relative to the page, with slashes; `digest` is the SHA-256 in hex."""

    path: str
    media_type: str
    data: bytes
    digest: str


@functools.cache
def page_files() -> Mapping[str, PageFile]:
    """By path, read once: a file that changes while the server runs is not seen."""
    found = {}
    for file in sorted(STATIC.rglob("*")):
        media_type = _MEDIA_TYPES.get(file.suffix)
        if media_type is None or not file.is_file():
            continue
        path, data = file.relative_to(STATIC).as_posix(), file.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        found[path] = PageFile(path, media_type, data, digest)
    return MappingProxyType(found)
