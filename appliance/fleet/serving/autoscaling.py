"""How many replicas the tokens that wait are worth. Knows no replica.

Source: https://docs.ray.io/en/latest/serve/advanced-guides/advanced-autoscaling.html
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext


def wanted_replicas(waiting: list[float], per_replica: float) -> int:
    """`waiting`: tokens, at each replica that there is. One more where more wait for each than
    it is to have, one less where those that are left would still have less than half of that.
    """
    num, total = max(len(waiting), 1), sum(waiting)
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
        waiting = [float(each) for each in metrics.get("waiting_tokens", {}).values()]
        if not waiting:
            return context.target_num_replicas, {}
        return wanted_replicas(waiting, self._per_replica), {}
