"""How many replicas the tokens that wait are worth. Knows no replica.

Source: https://docs.ray.io/en/latest/serve/advanced-guides/advanced-autoscaling.html
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext


def wanted_replicas(here: list[float], at_doors: float, per_replica: float) -> int:
    """`here`: tokens that wait at each replica that there is. As many more as it takes where more
    wait for each than it is to have, one less where those that are left would still have less
    than half of that.
    """
    num, total = max(len(here), 1), sum(here) + at_doors
    if total > per_replica * num:
        return max(num + 1, math.ceil(total / per_replica))
    if num > 1 and total <= per_replica * (num - 1) / 2:
        return num - 1
    return num


class WaitingTokens:
    """A policy of Ray Serve's."""

    def __init__(self, waiting_tokens: float) -> None:
        self._per_replica = waiting_tokens

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        metrics = context.aggregated_metrics or {}
        here = [float(each) for each in metrics.get("waiting_tokens", {}).values()]
        if not here:
            return context.target_num_replicas, {}
        # each replica has been told the same by the doors, or less
        told = [float(each) for each in metrics.get("waiting_at_doors", {}).values()]
        return wanted_replicas(here, max(told, default=0.0), self._per_replica), {}
