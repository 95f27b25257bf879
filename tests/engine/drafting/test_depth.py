"""The depth controller against made-up machines: never slower than without drafts, near
the best constant depth.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.engine.drafting.depth import DepthController
from appliance.engine.drafting.drafter import DraftCost
from appliance.engine.drafting.offers import DraftAlternative, DraftOffer, StepContext
from tests.engine.drafting.speculation_simulator import (
    ACCEPTANCES,
    CURVES,
    best_constant,
    ratio,
    time_ms,
)

NEVER_SLOWER = 0.98


@pytest.mark.parametrize("num_streams", [1, 2, 4, 8])
@pytest.mark.parametrize("curve", CURVES)
def test_no_acceptance_makes_it_slower(curve: str, num_streams: int) -> None:
    for name, acceptance in ACCEPTANCES.items():
        assert ratio(CURVES[curve], acceptance, num_streams, num_seeds=1) >= NEVER_SLOWER, name


@pytest.mark.parametrize("plain_error", [0.7, 1.5, 2.0])
@pytest.mark.parametrize("num_streams", [1, 4])
@pytest.mark.parametrize("curve", CURVES)
def test_what_steps_without_drafts_take_is_found_out(
    curve: str, num_streams: int, plain_error: float
) -> None:
    for name in ("poor", "fair", "always wrong"):
        acceptance = ACCEPTANCES[name]
        without = time_ms(CURVES[curve], acceptance, num_streams, 0, constant=0)
        drafting = time_ms(CURVES[curve], acceptance, num_streams, 0, plain_error=plain_error)
        assert without / drafting >= NEVER_SLOWER, name


@pytest.mark.parametrize(
    ("curve", "acceptance", "num_streams", "share"),
    [
        ("memory bound", "always right", 1, 0.8),
        ("memory bound", "good", 1, 0.8),
        ("memory bound", "good", 4, 0.9),
        ("memory bound", "fair", 2, 0.9),
        ("memory bound", "wrong, then good", 1, 0.9),
        ("half and half", "always right", 1, 0.95),
        ("flat to 4, then a cliff", "good", 1, 0.9),
        ("flat to 4, then a cliff", "good", 2, 0.9),
        ("plateaus of 8", "always right", 2, 0.85),
        ("plateaus of 8", "fair", 2, 0.9),
    ],
)
def test_it_comes_near_the_best_constant_depth(
    curve: str, acceptance: str, num_streams: int, share: float
) -> None:
    best = best_constant(CURVES[curve], ACCEPTANCES[acceptance], num_streams)
    assert best > 1.3, "a case in which drafting pays"
    assert ratio(CURVES[curve], ACCEPTANCES[acceptance], num_streams, num_seeds=8) >= share * best


def context(*slots: int, row_ms: float = 0.0, max_rows: int = 32) -> StepContext:
    return StepContext(slots, max_rows, 20.0, lambda n: 20.0 + n * row_ms)


def test_rows_that_cost_nothing_are_all_used_and_go_to_the_likeliest() -> None:
    controller = DepthController()
    decision = controller.choose(
        context(0, 1, max_rows=6), [DraftAlternative([DraftOffer(0, 9, 1), DraftOffer(1, 9, 3)])]
    )
    assert decision is not None
    assert decision.depths == {0: 1, 1: 5}, (
        "chances 0.4, 0.16 and so on against 0.8, 0.64, 0.51, 0.41, 0.33"
    )


@pytest.mark.parametrize(
    ("offers", "depths"), [((9, 4), {0: 3, 1: 3}), ((9, 2), {0: 2, 1: 2}), ((9, 0), None)]
)
def test_where_depths_have_to_be_equal_the_shallowest_decides(
    offers: tuple[int, int], depths: dict[int, int] | None
) -> None:
    decision = DepthController().choose(
        replace(context(0, 1, max_rows=7), wants_equal_depths=True),
        [DraftAlternative([DraftOffer(slot, num, 3) for slot, num in enumerate(offers)])],
    )
    assert (None if decision is None else decision.depths) == depths


def test_more_rows_than_there_is_room_for_are_never_chosen() -> None:
    for max_rows in range(1, 5):
        decision = DepthController().choose(
            context(0, 1, max_rows=max_rows),
            [DraftAlternative([DraftOffer(0, 9), DraftOffer(1, 9)])],
        )
        assert decision is not None
        assert sum(decision.depths.values()) <= max_rows


def test_the_deepest_sequence_decides_what_a_draft_model_takes() -> None:
    alternative = DraftAlternative(
        [DraftOffer(slot, 8, 4, takes_time=True) for slot in (0, 1)],
        DraftCost(begin_ms=2.0, token_ms=2.0),
    )
    decision = DepthController().choose(context(0, 1), [DraftAlternative([]), alternative])
    assert decision is not None
    assert decision.alternative == 1
    depth = max(decision.depths.values())
    assert decision.extra_ms == pytest.approx(2.0 * depth)
    assert set(decision.depths.values()) == {depth}, "the second one's tokens take no more time"


def test_a_draft_model_that_takes_longer_than_the_target_is_not_asked() -> None:
    alternative = DraftAlternative(
        [DraftOffer(0, 8, 4, takes_time=True)], DraftCost(begin_ms=25.0, token_ms=25.0)
    )
    assert DepthController().choose(context(0), [DraftAlternative([]), alternative]) is None


def test_what_is_spent_on_looking_is_bounded_too() -> None:
    controller = DepthController()
    controller.choose(context(0, row_ms=1.0), [DraftAlternative([DraftOffer(0, 1)])])
    for _ in range(1000):
        looks = controller.may_draft()
        controller.observe_without(20.0, 10.0 if looks else 0.0, None)
    assert 0.005 * 1000 * 20.0 <= -controller.total.real_ms <= 0.01 * 1000 * 20.0, (
        "each takes half a step"
    )


def test_gains_are_what_the_clock_says() -> None:
    controller = DepthController()
    decision = controller.choose(
        context(3, row_ms=1.0, max_rows=4), [DraftAlternative([DraftOffer(3, 4, 3)])]
    )
    assert decision is not None
    depth = decision.depths[3]
    controller.observe({3: 3}, {3: depth}, {3: 2}, step_ms=23.0, drafting_ms=0.5)
    use = controller.use(3)
    assert (use.num_drafted, use.num_accepted) == (depth, 2)
    assert use.real_ms == pytest.approx(2 * 20.0 - 3.0 - 0.5)
    assert use.expected_ms == pytest.approx(sum(0.8**n for n in range(1, depth + 1)) * 20.0 - depth)
    controller.release(3)
    assert controller.use(3).num_drafted == 0
    assert controller.total.num_accepted == 2
