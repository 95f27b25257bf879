"""What a hub says of a repository and its files, as far as it can be trusted.

Asks no hub, and imports no client of one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeGuard

_SHA1, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")
_MAX_NAME_BYTES = 255  # of a part, as file systems have it
_MAX_DEPTH = 4
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')


@dataclass(frozen=True)
class HubFile:
    """A file as its hub describes it."""

    name: str  # its path in the repository
    num_bytes: int
    sha256: str | None  # of its content, where Git LFS keeps it
    git_sha1: str  # without a `sha256`, of its content as a git blob

    @property
    def content_id(self) -> str:
        return self.sha256 or self.git_sha1


@dataclass(frozen=True)
class Repository:
    """A repository at one commit."""

    id: str
    commit: str
    files: tuple[HubFile, ...]  # those with a safe name and a checksum
    num_left_out: int = 0  # the others
    # at a hub that has no commits of a whole repository, what was asked for in its place
    branch: str | None = None

    def find(self, name: str) -> HubFile | None:
        return next((file for file in self.files if file.name == name), None)


def is_safe_name(name: str) -> bool:
    """Whether a hub's name for a file is a plain path below its repository: nothing
    hidden, no way up, no odd sign.
    """
    parts = name.split("/")
    return len(parts) <= _MAX_DEPTH and all(
        part
        and not part.startswith((".", " "))
        and not part.endswith((".", " "))
        and _is_plain(part)
        for part in parts
    )


def _is_plain(part: str) -> bool:
    return (
        part.isprintable()
        and _NOT_IN_NAMES.search(part) is None
        and len(part.encode()) <= _MAX_NAME_BYTES
    )


def is_sha1(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _SHA1.fullmatch(value) is not None


def is_sha256(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None
