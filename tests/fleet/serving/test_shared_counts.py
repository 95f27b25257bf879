"""What doors have counted together."""

from __future__ import annotations

from appliance.fleet.serving.shared_counts import Elsewhere, SharedCounts, Total
from appliance.gateway.accounts.used import Amount

NOTHING = Total(Amount(0, 0), 0)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def total(requests: int, tokens: int, running: int) -> dict[str, Total]:
    return {"ann": Total(Amount(requests, tokens), running)}


def test_each_door_is_told_of_the_others_and_not_of_itself() -> None:
    counts = SharedCounts(Clock())
    assert counts.report("a", total(3, 300, 2)) == {}
    assert counts.report("b", total(1, 50, 1)) == total(3, 300, 2)
    assert counts.report("c", {}) == total(4, 350, 3)
    assert counts.report("a", total(5, 500, 0)) == total(1, 50, 1)


def test_a_report_that_comes_twice_changes_nothing() -> None:
    counts = SharedCounts(Clock())
    for _ in range(2):
        counts.report("a", total(3, 300, 2))
    assert counts.report("b", {}) == total(3, 300, 2)


def test_of_a_door_that_is_gone_nothing_runs_but_what_it_took_stays() -> None:
    clock = Clock()
    counts = SharedCounts(clock)
    counts.report("a", total(3, 300, 2))
    clock.now_s = 11.0
    assert counts.report("b", {}) == total(3, 300, 0)
    clock.now_s = 4000.0
    assert counts.report("b", {}) == {}


def test_a_door_counts_what_is_new_in_what_it_is_told() -> None:
    elsewhere = Elsewhere()
    assert elsewhere.news("e", total(3, 300, 2)) == total(0, 0, 2)  # it has not seen these begin
    assert elsewhere.news("e", total(5, 360, 1)) == total(2, 60, 1)
    assert elsewhere.news("e", total(5, 360, 0)) == total(0, 0, 0)
    assert elsewhere.news("e", total(4, 350, 0)) == total(0, 0, 0)  # given back there
    assert elsewhere.news("e", {}) == {"ann": NOTHING}


def test_a_new_owner_tells_nothing_that_was_not_counted() -> None:
    elsewhere = Elsewhere()
    elsewhere.news("e", total(5, 360, 1))
    assert elsewhere.news("f", total(9, 900, 1)) == total(0, 0, 1)
    assert elsewhere.news("f", total(10, 950, 1)) == total(1, 50, 1)
