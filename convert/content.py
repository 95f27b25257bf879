"""What is in a file: its hash, or its text.

Knows neither models nor what is made of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from convert.errors import BadInput, MissingFile

MAX_TEXT_BYTES = 16 << 20  # some four million tokens, which whoever reads them holds at once
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class HashedText:
    """A text, and the hash of its bytes."""

    text: str
    sha256: str  # in hexadecimal


def read_text(path: Path) -> HashedText:
    """Raises `MissingFile` for what cannot be read, `BadInput` for what is too large or
    no UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise MissingFile(f"The text {path} cannot be read: {error.strerror}.") from error
    if len(data) > MAX_TEXT_BYTES:
        raise BadInput(
            f"{path} is larger than {MAX_TEXT_BYTES >> 20} MiB. Use a part of it; 1 MiB is enough."
        )
    try:
        return HashedText(data.decode(), hashlib.sha256(data).hexdigest())
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} is not UTF-8 text (byte {error.start} is {data[error.start]:#04x}). Save it "
            "as UTF-8."
        ) from error


def hash_file(path: Path) -> str:
    """SHA-256 in hexadecimal. Raises `MissingFile` for what cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
    except OSError as error:
        raise MissingFile(f"{path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()
