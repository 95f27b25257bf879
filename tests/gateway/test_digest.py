"""Percentiles of many durations, within 1 %, and how the past is forgotten."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.telemetry.digest import (
    RELATIVE_ERROR,
    SLOT_S,
    Counts,
    WindowDigest,
    duration_of,
    percentile,
    step_of,
)


@given(st.floats(1e-6, 1e4))
def test_a_step_stands_for_durations_within_one_percent(duration_s: float) -> None:
    assert duration_of(step_of(duration_s)) == pytest.approx(duration_s, rel=RELATIVE_ERROR * 1.001)


@given(
    st.lists(st.floats(1e-5, 100.0), min_size=1, max_size=60), st.sampled_from((0.5, 0.95, 0.99))
)
def test_a_percentile_is_the_exact_one_within_one_percent(
    durations_s: list[float], share: float
) -> None:
    counts: Counts = {}
    for duration_s in durations_s:
        counts[step_of(duration_s)] = counts.get(step_of(duration_s), 0) + 1
    exact_s = sorted(durations_s)[math.ceil(share * len(durations_s)) - 1]
    assert percentile(counts, share) == pytest.approx(exact_s, rel=RELATIVE_ERROR * 1.001)


def test_nothing_has_no_percentile() -> None:
    assert percentile({}, 0.5) is None


def test_what_is_shorter_than_a_microsecond_counts_as_one() -> None:
    assert step_of(0.0) == step_of(1e-6)


def test_slots_that_ended_before_the_window_are_left_out() -> None:
    digest = WindowDigest(10 * SLOT_S)
    for slot in range(20):
        digest.add(slot, 2, slot * SLOT_S)
    now_s = 19 * SLOT_S
    assert digest.counts_since(now_s - 2 * SLOT_S) == {17: 2, 18: 2, 19: 2}
    # more than the window is not kept: ten slots, and the one that is going on
    assert digest.counts_since(0.0) == dict.fromkeys(range(9, 20), 2)


def test_a_digest_that_nobody_adds_to_grows_old() -> None:
    digest = WindowDigest(3600.0)
    digest.add(5, 1, 0.0)
    assert digest.counts_since(SLOT_S - 1) == {5: 1}
    assert digest.counts_since(SLOT_S) == {}
