"""Nodes whose steps take what a formula says: 20 ms, and 1 ms for each row."""

from __future__ import annotations

from appliance.engine.cost import AttentionCost, StepCost
from appliance.fleet.measured import MeasuredNode
from appliance.protocol.measured_node import NodeDescription

ATTENTION = AttentionCost(foreign_cell=0.0)
STEP_MS, ROW_MS = 20.0, 1.0


def linear_cost() -> StepCost:
    cost = StepCost(ATTENTION)
    for num_rows in (1, 2, 3, 4, 8, 16, 32, 64, 128, 256):
        cost.observe(cost.shape(num_rows, 0, 0), STEP_MS + ROW_MS * num_rows)
    return cost


def linear_node(**changes: int) -> MeasuredNode:
    numbers = {"ctx": 4096, "slots": 4, "kv_cells": 16384, "kept_cells": 12288, **changes}
    node = NodeDescription(
        model="linear-Q8_0",
        machine="paper",
        max_rows=256,
        kept_s=3600.0,
        max_stall_ms=250,
        **numbers,
    )
    steps = linear_cost().state()
    return MeasuredNode(node=node, attention=ATTENTION, steps=steps, reach_ms=0.0)
