"""A bucket of a minute: what fits, when more fits, and what a changed limit changes."""

from __future__ import annotations

from appliance.gateway.accounts.meter import Meter


def test_it_runs_dry_evenly_within_a_minute() -> None:
    meter = Meter()
    meter.add(6, 6, 100.0)
    assert (meter.left(6, 100.0), meter.empty_in_s(6, 100.0)) == (0, 60.0)
    assert meter.left(6, 109.9) == 0
    assert meter.left(6, 110.0) == 1
    assert (meter.left(6, 130.0), meter.empty_in_s(6, 130.0)) == (3, 30.0)
    assert (meter.left(6, 160.0), meter.empty_in_s(6, 160.0)) == (6, 0.0)
    assert meter.left(6, 9999.0) == 6


def test_what_does_not_fit_waits_until_it_does() -> None:
    meter = Meter()
    meter.add(500, 600, 0.0)
    assert meter.wait_s(100, 600, 0.0) == 0.0
    assert meter.wait_s(101, 600, 0.0) == 0.1
    assert meter.wait_s(101, 600, 0.1) == 0.0


def test_what_is_larger_than_the_limit_waits_until_all_is_free() -> None:
    meter = Meter()
    assert meter.wait_s(10_000, 600, 0.0) == 0.0
    meter.add(10_000, 600, 0.0)
    assert meter.left(600, 0.0) == 0
    assert meter.wait_s(1, 600, 0.0) == 940.1
    assert meter.wait_s(10_000, 600, 940.0) == 60.0
    assert meter.wait_s(10_000, 600, 1000.0) == 0.0


def test_what_was_not_needed_is_given_back_and_never_more() -> None:
    meter = Meter()
    meter.add(500, 600, 0.0)
    meter.add(-400, 600, 0.0)
    assert meter.left(600, 0.0) == 500
    meter.add(-400, 600, 0.0)
    assert meter.left(600, 0.0) == 600


def test_a_changed_limit_keeps_what_was_used() -> None:
    meter = Meter()
    meter.add(50, 60, 0.0)
    assert (meter.left(60, 0.0), meter.left(100, 0.0), meter.left(40, 0.0)) == (10, 50, 0)
    assert meter.wait_s(1, 40, 0.0) == 16.5
