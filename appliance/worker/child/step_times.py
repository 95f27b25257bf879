"""What the engine learned about the time of its steps, kept between runs.

Knows nothing of what it means.

One small JSON file per model, KV type, CPU path, thread count and machine: anything
else has other times. It also says what it is of, for whoever plans with it
(appliance/fleet/measured.py).
"""

from __future__ import annotations

import json
import logging
import os
import platform
from pathlib import Path

import msgspec

from appliance.engine.cost import StepCost
from appliance.protocol.measured_node import NodeDescription

_log = logging.getLogger(__name__)
_NEWEST_OUTSIDE = 0.01  # weight of the newest step


class StepTimes:
    """The file in `folder` for one `fingerprint`; without a folder nothing is kept. `node` is
    what it says it is of.
    """

    def __init__(self, folder: Path | None, fingerprint: str, node: NodeDescription) -> None:
        self._node = node
        self._outside_ms: float | None = None
        self._path = None if folder is None else folder / f"{fingerprint}.json"

    def load(self, cost: StepCost, long_cost: StepCost) -> bool:
        """Restores what is there; False if nothing is, or nothing that can be used.

        `long_cost`: of a long time, see `Engine`.
        """
        if self._path is None:
            return False
        try:
            record = json.loads(self._path.read_text("utf-8"))
            about = record.pop("about", {})
            cost.restore(record)
            long_cost.restore(about.get("long_run") or record)
            self._outside_ms = about.get("outside_ms")
        except FileNotFoundError:
            return False
        except (OSError, ValueError, TypeError, AttributeError) as error:
            _log.warning("%s cannot be used and is ignored: %s", self._path, error)
            return False
        return True

    def note_outside(self, elapsed_s: float) -> None:
        """What a step took beside computing: choosing its rows, and making text of its tokens."""
        if self._outside_ms is None:
            self._outside_ms = elapsed_s * 1000
        self._outside_ms += (elapsed_s * 1000 - self._outside_ms) * _NEWEST_OUTSIDE

    def save(self, cost: StepCost, long_cost: StepCost) -> None:
        """Complete under its name or not there at all.

        A disk that refuses costs a warning, and a measurement later.
        """
        if self._path is None:
            return
        temporary = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            about = {
                "node": self._node,
                "attention": cost.attention,
                "outside_ms": self._outside_ms,
                "long_run": long_cost.state(),
                "scatter": long_cost.scatter,
            }
            temporary.write_bytes(msgspec.json.encode({**cost.state(), "about": about}))
            temporary.replace(self._path)
        except OSError as error:
            _log.warning("step times could not be written to %s: %s", self._path, error)


def machine_name() -> str:
    """Host and processor: what was measured on another one says nothing here."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return f"{platform.node()} {platform.processor()}"  # not a Linux
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{platform.node()} {next(names, platform.machine())}"
