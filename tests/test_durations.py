"""One dialect of durations for settings and requests alike."""

from __future__ import annotations

import math

import pytest

from appliance.durations import TimeLeft, duration_s, in_words


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


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (300_000, "3 days"),
    ],
)
def test_a_duration_is_told(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_the_time_left_is_judged_from_the_first_report_on() -> None:
    now_s = [50.0]
    left = TimeLeft(clock=lambda: now_s[0])
    told = []
    for now_s[0], share in ((50.0, 0.5), (51.9, 0.6), (52.0, 0.5), (60.0, 0.75), (61.0, 1.0)):
        told.append(left.words(share))
    assert told == ["", "", "", "10 s left", ""]
