"""How many replicas the tokens that wait are worth."""

from __future__ import annotations

import pytest

from appliance.fleet.serving.autoscaling import wanted_replicas


@pytest.mark.parametrize(
    ("here", "at_doors", "wanted"),
    [
        ([0.0], 0, 1),
        ([4000.0], 0, 1),
        ([4001.0], 0, 2),
        ([1000.0], 29_000, 8),
        ([4000.0, 4000.0], 0, 2),
        ([9000.0, 0.0], 0, 3),
        ([1000.0, 0.0], 1000, 1),
        ([1001.0, 0.0], 1000, 2),
        ([0.0] * 5, 0, 4),
        ([], 0, 1),
    ],
)
def test_replicas_for_4000_tokens_each(here: list[float], at_doors: float, wanted: int) -> None:
    assert wanted_replicas(here, at_doors, 4000) == wanted
