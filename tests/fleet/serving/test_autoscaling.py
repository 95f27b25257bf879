"""How many replicas the tokens that wait are worth."""

from __future__ import annotations

import pytest

from appliance.fleet.serving.autoscaling import wanted_replicas


@pytest.mark.parametrize(
    ("waiting", "wanted"),
    [
        ([0.0], 1),
        ([4000.0], 1),
        ([4001.0], 2),
        ([30_000.0], 8),
        ([4000.0, 4000.0], 2),
        ([9000.0, 0.0], 3),
        ([1000.0, 1000.0], 1),
        ([1001.0, 1000.0], 2),
        ([0.0] * 5, 4),
        ([], 1),
    ],
)
def test_replicas_for_4000_tokens_each(waiting: list[float], wanted: int) -> None:
    assert wanted_replicas(waiting, 4000) == wanted
