"""How fast this machine's memory is, as measured once and remembered.

Knows no model, and measures nothing itself.

Generating a token reads every weight once, so bandwidth is what bounds it where the
weights do not fit into the caches.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

_log = logging.getLogger(__name__)
_FILE_NAME = "memory_bandwidth.json"


@dataclass(frozen=True, kw_only=True)
class Bandwidth:
    """What copying in memory reached, and under which conditions."""

    copy_bytes_per_s: float  # read and written, in the best of several passes
    threads: int
    copied_bytes: int
    spread: float  # the median pass's time over the best's; far above 1: something else ran
    cached: bool  # the caches hold a good part of what was copied: memory is slower than this
    date: str  # ISO 8601


@dataclass(frozen=True)
class BandwidthKey:
    """What bandwidth is remembered for; with fewer threads (a quota, a cpuset) less of
    it can be had.
    """

    cpu_name: str
    ram_total_bytes: int
    threads: int

    @property
    def text(self) -> str:
        return f"{self.cpu_name}, {self.ram_total_bytes} bytes, {self.threads} threads"


@dataclass(frozen=True)
class _BandwidthFile:
    """The content of the state directory's file."""

    version: Literal[1]
    machines: dict[str, Bandwidth]  # the best that was measured, by `BandwidthKey.text`


class BandwidthMemory:
    """What was measured before, in a file of the state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / _FILE_NAME

    def recall(self, key: BandwidthKey) -> Bandwidth | None:
        return self._read().get(key.text)

    def remember(self, key: BandwidthKey, bandwidth: Bandwidth) -> Bandwidth:
        """Keeps and returns the better of what was known and this: other work only ever
        makes it slower.

        Written by rename. A directory that cannot be written to costs the memory, not
        the result: a warning.
        """
        machines = self._read()
        known = machines.get(key.text)
        if known is not None and known.copy_bytes_per_s >= bandwidth.copy_bytes_per_s:
            return known
        content = msgspec.json.encode(_BandwidthFile(1, {**machines, key.text: bandwidth}))
        temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.json.format(content, indent=1))
            temporary.replace(self._file)
        except OSError as error:
            _log.warning("cannot save the measured memory bandwidth: %s", error)
        return bandwidth

    def _read(self) -> dict[str, Bandwidth]:
        """What was found before; a file that cannot be read as such counts as none."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_BandwidthFile).machines
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("ignoring %s, which will be rewritten: %s", self._file, error)
            return {}
