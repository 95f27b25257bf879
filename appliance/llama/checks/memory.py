"""The state file that remembers what is known of the CPU paths, per CPU and library.

Knows no rule and no probe.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from appliance.llama.checks.paths import CpuPaths

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _PathsFile:
    """The file's content; `machines` maps `machine_key()` to what was found there."""

    version: Literal[2]
    machines: dict[str, CpuPaths]


class PathMemory:
    """What `state_file` remembers of this CPU with this library; either changed, it
    remembers nothing.
    """

    def __init__(self, state_file: Path) -> None:
        self._state_file = state_file

    def recall(self) -> CpuPaths | None:
        return self._read().get(machine_key())

    def remember(self, paths: CpuPaths) -> None:
        """Written by rename.

        A directory that cannot be written to costs the memory, not the service: a
        warning.
        """
        content = msgspec.json.encode(_PathsFile(2, {**self._read(), machine_key(): paths}))
        temporary = self._state_file.with_name(f"{self._state_file.name}.{os.getpid()}")
        try:
            self._state_file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.json.format(content, indent=1))
            temporary.replace(self._state_file)
        except OSError as error:
            _log.warning("the findings about the CPU paths cannot be saved: %s", error)

    def _read(self) -> dict[str, CpuPaths]:
        """What was found before; a file that cannot be read as such, or is of an older
        format, counts as none.
        """
        try:
            return msgspec.json.decode(self._state_file.read_bytes(), type=_PathsFile).machines
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("%s cannot be used and will be rewritten: %s", self._state_file, error)
            return {}


@functools.cache
def machine_key() -> str:
    """Changes with the CPU (model and features) and with the library's files."""
    digest = hashlib.sha256(_cpu_description().encode())
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    for library in sorted((Path(spec.origin).parent / "lib").glob("lib*")):
        digest.update(library.name.encode())
        if not library.is_symlink():
            digest.update(library.read_bytes())
    return digest.hexdigest()


def _cpu_description() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:  # macOS
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "CPU implementer", "CPU part", "Features")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
