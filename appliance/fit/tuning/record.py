"""What was found by tuning, with its evidence, kept between runs: a file for each model
file and KV type.

A record holds for one content of the model's file, one machine with its limits, and one
build of llama.cpp with the CPU paths that work: with anything else it is stale.
Measures nothing.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.speeds import Speeds
from appliance.fit.tuning.tuner import TuningResult

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TuningKey:
    """What a record holds for."""

    model_bytes: int
    model_modified_ns: int
    kv_type: str
    machine: str  # changes with the CPU and with llama.cpp's files
    usable_cores: int
    cpu_quota: float | None
    cpu_paths: tuple[str, ...]  # names of those that are usable
    kernels: str = "none"  # of our own: `KernelUse.identity`


@dataclass(frozen=True, kw_only=True)
class TuningConditions:
    """How it was measured."""

    date: str  # ISO 8601
    seconds: float  # that it took
    depth: int  # cells of context before what is measured
    streams: int
    is_short: bool
    prompt_rows: int = 0
    others_share: float = 0.0  # of the CPUs' time, that other processes took meanwhile


@dataclass(frozen=True)
class EmptyCache:
    """The default and what was found, in turns, with nothing in the cache: shown, and
    not part of the choice.
    """

    default_rounds: tuple[Speeds, ...]
    best_rounds: tuple[Speeds, ...]


@dataclass(frozen=True, kw_only=True)
class TuningRecord:
    """What to use, and why."""

    key: TuningKey
    conditions: TuningConditions
    tuning: Tuning
    found: TuningResult | None = None  # None where there was no time to measure: see `reason`
    empty: EmptyCache | None = None
    reason: str = ""
    # fields of `Tuning` that there was no time for: later starts go on with them
    still_open: tuple[str, ...] = ()
    num_starts: int = 1  # that have measured so far


@dataclass(frozen=True)
class _RecordFile:
    version: Literal[1]
    record: TuningRecord


class TuningRecords:
    """The files below `state_dir`; of several processes that measure at once, the last
    one's record stays.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "tuning"

    def recall(self, model: Path, key: TuningKey) -> TuningRecord | None:
        """None where nothing is known, or only of something else; a damaged file is
        logged and counts as none.
        """
        path = self.path(model, key.kv_type)
        try:
            record = msgspec.json.decode(path.read_bytes(), type=_RecordFile).record
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            _log.warning(
                "ignoring %s, which the next `appliance tune` will rewrite: %s", path, error
            )
            return None
        return record if record.key == key else None

    def remember(self, model: Path, record: TuningRecord) -> None:
        """Written by rename.

        A directory that cannot be written to costs the memory, not the service: a
        warning.
        """
        path = self.path(model, record.key.kv_type)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(
                msgspec.json.format(msgspec.json.encode(_RecordFile(1, record)), indent=1)
            )
            temporary.replace(path)
        except OSError as error:
            _log.warning("cannot save the result of tuning: %s", error)

    def path(self, model: Path, kv_type: str) -> Path:
        """Files of one name in different folders are different models."""
        place = hashlib.sha256(os.fsencode(model.absolute())).hexdigest()[:8]
        return self._folder / f"{model.stem}-{kv_type.replace('/', '-')}-{place}.json"
