"""What a node's steps take, and what its plan allows, as its worker wrote it down.

Knows the files in `step-times` (appliance/worker/child/step_times.py writes them) and no
simulation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.engine.cost import AttentionCost, StepCost
from appliance.errors import BadRequest

_NUMBERS = ("ctx", "slots", "kv_cells", "max_rows", "kept_cells", "max_stall_ms", "tiled_rows")


@dataclass(frozen=True, kw_only=True)
class MeasuredNode:
    """One model on one machine."""

    model: str  # its file's name, without the ending
    machine: str
    ctx: int  # tokens of the longest request
    slots: int
    kv_cells: int
    max_rows: int
    kept_cells: int  # that may hold prefixes of nobody who runs
    kept_s: float  # for which they do
    max_stall_ms: int
    attention: AttentionCost
    steps: dict[str, list[float]]

    def cost(self) -> StepCost:
        """A cost model that knows all of it."""
        cost = StepCost(self.attention)
        cost.restore(self.steps)
        return cost


def read_node(path: Path) -> MeasuredNode:
    """Raises `BadRequest` for a file that holds none, or one of an earlier version."""
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
        about = record.pop("about")
        numbers = {name: int(about[name]) for name in _NUMBERS}
        node = MeasuredNode(
            model=str(about["model"]),
            machine=str(about["machine"]),
            kept_s=float(about["kept_s"]),
            attention=AttentionCost(float(about["foreign_cell"]), numbers.pop("tiled_rows")),
            steps=record,
            **numbers,
        )
        node.cost()
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRequest(
            f"{path} holds no measured node. Serve the model there once with this version: its "
            "file in the state directory's `step-times` is what is wanted here."
        ) from error
    return node


def find_node(folder: Path, model: str) -> MeasuredNode:
    """What was measured last on this machine of the model with this name, or whose file's name
    begins with it. Raises `BadRequest` where nothing was.
    """
    names: set[str] = set()
    for node in _all(folder):
        if node.model.lower().startswith(model.lower()):
            return node
        names.add(node.model)
    known = f" Measured so far: {', '.join(sorted(names))}." if names else ""
    raise BadRequest(
        f"What {model} takes on this machine was not measured yet. Serve it once (`appliance serve "
        f"{model}`), or give --node FILE.{known}"
    )


def _all(folder: Path) -> Iterator[MeasuredNode]:
    """The newest first; files of earlier versions are passed over."""
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        try:
            yield read_node(path)
        except BadRequest:
            continue
