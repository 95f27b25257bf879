"""How many keys are told apart in metrics."""

from __future__ import annotations

from appliance.gateway.telemetry.labels import OTHER, CallerLabels
from tests.gateway.telemetry_requests import Clock


def test_whoever_comes_after_too_many_is_other() -> None:
    labels = CallerLabels(Clock(), max_labels=2)
    assert [labels.label_of(who) for who in ("a", "b", "c", "a")] == ["a", "b", OTHER, "a"]


def test_who_asked_nothing_for_an_hour_gives_its_place_away() -> None:
    clock, left = Clock(), list[str]()
    labels = CallerLabels(clock, max_labels=2)
    labels.when_one_leaves(left.append)
    labels.label_of("a")
    clock.pass_s(1800)
    labels.label_of("b")
    clock.pass_s(1799)
    assert labels.label_of("c") == OTHER
    clock.pass_s(1)
    assert labels.label_of("c") == "c"
    assert left == ["a"]
    assert labels.label_of("a") == OTHER
