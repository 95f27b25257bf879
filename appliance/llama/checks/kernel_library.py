"""Where the kernels of our own are, if this installation has them. Loads nothing."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "native"
_NAME = "libappliance-kernels.so"
_REASON_NAME = "not-built.txt"  # in its place where the installer could not compile it


@dataclass(frozen=True)
class KernelLibrary:
    """The library's file, and what tells its bytes from others'."""

    path: Path
    build: str

    @classmethod
    def at(cls, path: Path) -> KernelLibrary:
        """Raises `OSError` where it cannot be read."""
        return cls(path, _build_of(path, path.stat().st_mtime_ns))


def find_kernels(folder: Path = FOLDER) -> KernelLibrary | str:
    """The library, or in words why there is none."""
    path = folder / _NAME
    try:
        return KernelLibrary.at(path)
    except OSError:
        pass
    try:
        return f"were not built: {(folder / _REASON_NAME).read_text().strip()}"
    except OSError:
        return "were not built; ./install.sh compiles them"


@functools.lru_cache(4)
def _build_of(path: Path, _modified_ns: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
