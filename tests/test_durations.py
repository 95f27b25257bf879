"""One dialect of durations for settings and requests alike."""

from __future__ import annotations

import math

import pytest

from appliance.durations import duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300", 300.0),
        ("0", 0.0),
        ("0.5", 0.5),
        ("45s", 45.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("250ms", 0.25),
        ("2d", 172_800.0),
        ("1H30M", 5400.0),
        ("-1", math.inf),
        ("-5m", math.inf),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-", "5x", "m", "1h 30m", "1e3", "nan", "inf", "90m5", "1000000001"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a duration|more than"):
        duration_s(text)
