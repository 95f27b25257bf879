"""What a node's steps take, and what its plan allows, as its worker wrote it down.

Knows the files in `step-times` (appliance/worker/child/step_times.py writes them) and no
simulation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from appliance.engine.cost import AttentionCost, StepCost
from appliance.errors import BadSettings
from appliance.protocol.measured_node import NodeDescription

# HTTP, the parent, the tokenizer: of a node that does nothing else, of one core (AMD EPYC,
# `python -m bench.fleet`, 2026-12-01). A node does not measure it: no process sees both ends.
REACH_MS = 7.0


@dataclass(frozen=True, kw_only=True)
class MeasuredNode:
    """A node, and what `StepCost.state` says of its steps."""

    node: NodeDescription
    attention: AttentionCost
    steps: dict[str, list[float]]
    scatter: float = 0.0  # see `StepCost.scatter`
    outside_ms: float = 0.0  # that each step takes beside computing
    reach_ms: float = REACH_MS  # that a request takes to its engine, and its first token back

    def cost(self) -> StepCost:
        """A cost model that knows all of it. Raises `ValueError` where `steps` is no state."""
        cost = StepCost(self.attention)
        cost.restore(self.steps)
        return cost


def read_node(path: Path) -> MeasuredNode:
    """Raises `BadSettings` for a file that holds none, or one of an earlier version."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        about = record.pop("about")
        measured = MeasuredNode(
            node=msgspec.convert(about["node"], NodeDescription),
            attention=msgspec.convert(about["attention"], AttentionCost),
            # files of earlier versions know the last few steps alone
            steps=msgspec.convert(about.get("long_run") or record, dict[str, list[float]]),
            scatter=msgspec.convert(about.get("scatter", 0.0), float),
            outside_ms=msgspec.convert(about.get("outside_ms") or 0.0, float),
        )
        measured.cost()
    except OSError as error:
        raise BadSettings(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise BadSettings(
            f"{path} holds no measured node. Serve the model there once with this version: its "
            "file in the state directory's `step-times` is what is wanted here."
        ) from error
    return measured


def find_node(folder: Path, model: str) -> MeasuredNode:
    """What was measured last on this machine of the model with this name, or whose file's name
    begins with it. Raises `BadSettings` where nothing was.
    """
    names: set[str] = set()
    for measured in _all(folder):
        name = measured.node.model
        if name.lower().startswith(model.lower()):
            return measured
        names.add(name)
    known = f" Measured so far: {', '.join(sorted(names))}." if names else ""
    raise BadSettings(
        f"What {model} takes on this machine was not measured yet. Serve it once (`appliance serve "
        f"{model}`), or give --node FILE.{known}"
    )


def _all(folder: Path) -> Iterator[MeasuredNode]:
    """The newest first; files of earlier versions are passed over."""
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        try:
            yield read_node(path)
        except BadSettings:
            continue
