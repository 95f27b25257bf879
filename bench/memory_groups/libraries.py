"""Copies of the libraries that servers map, so that their pages are charged to the
group that uses them first.

A library that some other process already mapped would be charged to nobody here; in a
container it is the container's. The interpreter itself and the C library stay shared (8
MiB). Knows no server.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from bench.memory_groups.page_cache import make_cold

_DEVELOPMENT = (
    "mypy*",
    "*__mypyc*",
    "matplotlib*",
    "fontTools",
    "hypothesis",
    "openai",
    "pip",
    "torch*",
    "PIL",
)


class PrivateLibraries:
    """Everything that is installed beside Python, copied to `directory` once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        if not directory.exists():
            partial = directory.with_name(f"{directory.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)  # of a run that was ended
            installed = sysconfig.get_path("platlib")
            shutil.copytree(
                installed, partial, symlinks=True, ignore=shutil.ignore_patterns(*_DEVELOPMENT)
            )
            partial.rename(directory)

    def make_cold(self) -> None:
        """Before a server starts. Raises `NotCold` while another one runs."""
        for path in self._directory.rglob("*.so*"):
            if path.is_file():
                make_cold(path)

    def environment(self) -> Mapping[str, str]:
        """Of a process that imports from here first."""
        paths = [str(self._directory), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
