"""Files that were sent to be made a model of, by the SHA-256 of their content.

Knows no HTTP and no model.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from appliance.errors import BadRequest, SetupError

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_STEP_BYTES = 1 << 20
_PARTIAL = ".partial"


class Blobs:
    """In `folder`, which is made when the first one comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path_of(self, digest: str) -> Path:
        """Whether it is there or not. Raises `BadRequest` for what is no digest."""
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise BadRequest("A digest is written 'sha256:' and 64 hexadecimal digits (a-f).")
        return self._folder / f"sha256-{match[1]}"

    async def keep(self, digest: str, parts: AsyncIterator[bytes]) -> None:
        """Raises `BadRequest` where they have another digest, and then keeps nothing;
        `SetupError` where they cannot be written.
        """
        target = self.path_of(digest)
        temporary = self._folder / f".{secrets.token_hex(8)}{_PARTIAL}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                found = await _written(parts, file)
            if f"sha256-{found}" != target.name:
                raise BadRequest(
                    f"The content's digest is sha256:{found}, not {digest}. Send the file again."
                )
            temporary.replace(target)
        except OSError as error:
            raise SetupError(
                f"{self._folder} cannot be written: {error.strerror}. Check its permissions and "
                "the disk."
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def move(self, digest: str, target: Path) -> None:
        """Raises `BadRequest` where it was not sent, `OSError`."""
        path = self.path_of(digest)
        if not path.is_file():
            raise BadRequest(f"There is no file {digest}: send it to /api/blobs/{digest} first.")
        path.replace(target)


async def _written(parts: AsyncIterator[bytes], file: BinaryIO) -> str:
    """The SHA-256 of what was written. Disk and hash are worked at in a thread, in large
    steps.
    """
    sha256 = hashlib.sha256()
    waiting = bytearray()

    def take(data: bytes) -> None:
        sha256.update(data)
        file.write(data)

    async for part in parts:
        waiting += part
        if len(waiting) >= _STEP_BYTES:
            await asyncio.to_thread(take, bytes(waiting))
            waiting.clear()
    take(bytes(waiting))
    return sha256.hexdigest()
