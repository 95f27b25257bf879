"""The step-time model: learned over rows and cells, used for the choice of rows, never
spoilt for good by noise.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from appliance.engine.cost import LONG_RUN, AttentionCost, StepCost, StepShape

ATTENTION = AttentionCost(0.03)


def learned(curve: dict[int, float]) -> StepCost:
    cost = StepCost(ATTENTION)
    for num_rows, elapsed_ms in curve.items():
        cost.observe(StepShape(num_rows, 0.0), elapsed_ms)
    return cost


def at_depth(cells_per_row: float) -> Callable[[int], StepShape]:
    return lambda num_rows: StepShape(num_rows, cells_per_row)


EMPTY = at_depth(0.0)


def test_before_anything_is_known_a_modest_number_of_rows_is_tried() -> None:
    assert StepCost(ATTENTION).best_rows(0, 1000, 512, 100, EMPTY) == 64
    assert StepCost(ATTENTION).best_rows(0, 1000, 16, 100, EMPTY) == 16


def test_rows_look_past_foreign_cells_at_a_fraction_of_the_cost_of_their_own() -> None:
    assert StepCost(ATTENTION).shape(num_rows=4, num_attended=400, num_cells=100) == StepShape(
        4, 100.0
    )
    assert StepCost(ATTENTION).shape(num_rows=4, num_attended=400, num_cells=500) == StepShape(
        4, 100.0 + 0.03 * 400
    )


def test_beyond_the_largest_known_count_time_grows_in_proportion() -> None:
    cost = learned({64: 100.0})
    assert cost.estimate_ms(StepShape(128, 0.0)) == 200.0
    assert cost.best_rows(1, 63 * 10, 512, 250, EMPTY) == 63, (
        "127 would fit, and bring no more per millisecond"
    )
    assert cost.best_rows(0, 640, 512, 250, EMPTY) == 128, (
        "where nobody waits it is tried: it may be quicker"
    )


def test_a_plateau_and_a_cliff_are_both_used() -> None:
    cost = learned({32: 300.0, 48: 400.0, 64: 30.0, 128: 70.0})
    assert cost.best_rows(1, 63 * 10, 512, 50, EMPTY) == 63, "64 rows may cost a tenth of 32"
    plateau = learned({1: 20.0, 8: 104.0, 16: 112.0, 32: 142.0, 64: 215.0, 128: 448.0})
    assert plateau.best_rows(4, 60 * 20, 512, 250, EMPTY) == 60
    assert plateau.best_rows(4, 28 * 20, 512, 150, EMPTY) == 28


def test_the_shortest_step_among_those_that_are_about_as_fast_per_row() -> None:
    cost = learned({64: 64.0, 128: 126.0, 256: 250.0})
    assert cost.best_rows(1, 63 * 40, 256, 1000, EMPTY) == 63


def test_the_longest_step_within_the_budget_where_more_wait_for_a_first_token() -> None:
    cost = learned({1: 8.0, 64: 56.0, 128: 108.0, 256: 210.0})
    assert cost.best_rows(1, 224, 256, 120, EMPTY) == 56, "as good as done, and soon"
    assert cost.best_rows(1, 224, 256, 120, EMPTY, is_for_prompts=True) == 127


def test_a_much_better_rate_is_worth_up_to_twice_the_budget() -> None:
    slow = learned({1: 20.0, 8: 104.0, 16: 112.0, 64: 180.0, 128: 400.0})
    assert slow.best_rows(7, 57 * 10, 512, 100, EMPTY) == 26, (
        "one row at a time would take twenty times as long in all"
    )
    assert slow.best_rows(7, 57 * 10, 512, 60, EMPTY) == 8, (
        "180 ms are too long; 111 ms bring more than 104 ms"
    )


def test_where_nothing_comes_near_the_budget_a_prompt_moves_on_in_the_shortest_step() -> None:
    assert learned({1: 20.0, 8: 104.0, 16: 140.0}).best_rows(7, 500, 512, 10, EMPTY) == 1


def test_no_small_rest_is_left_where_it_would_cost_more() -> None:
    cost = learned({1: 70.0, 32: 1200.0, 48: 1600.0, 64: 300.0, 128: 500.0})
    assert cost.best_rows(0, 112, 512, 500, EMPTY) == 112, "64 rows would leave 48"
    assert cost.best_rows(0, 200, 512, 400, EMPTY) == 67, "three times 67, not three times 64 and 8"


def test_cells_make_a_step_longer_by_a_slope_that_is_learned() -> None:
    cost = StepCost(ATTENTION)
    for depth in range(0, 2000, 50):
        cost.observe(StepShape(64, depth), 100.0 + 0.05 * depth)
    assert cost.estimate_ms(StepShape(64, 2500.0)) == pytest.approx(225.0, abs=3)
    assert cost.best_rows(0, 640, 64, 150, at_depth(500.0)) == 64
    assert cost.estimate_ms(StepShape(128, 2500.0)) == pytest.approx(450.0, abs=6), "in proportion"


def test_a_slope_learned_at_one_count_holds_for_others_on_the_same_side_of_tiling() -> None:
    cost = StepCost(ATTENTION)
    cost.observe(StepShape(8, 0.0), 50.0)
    for depth in range(0, 2001, 100):
        cost.observe(StepShape(1, depth), 20.0 + 0.01 * depth)
    assert cost.estimate_ms(StepShape(8, 2000.0)) == pytest.approx(50 + 8 * 0.01 * 2000, rel=0.1)
    cost.observe(StepShape(64, 0.0), 100.0)
    assert cost.estimate_ms(StepShape(64, 2000.0)) == pytest.approx(100.0), (
        "what tiles cost is not known yet"
    )


def test_idle_cells_are_affordable_up_to_their_share_of_one_stream() -> None:
    cost = StepCost(ATTENTION)
    for depth in range(0, 2001, 100):
        cost.observe(StepShape(1, depth), 20.0 + 0.01 * depth)
    # 3 % of 20 ms are 0.6 ms, and a cell of somebody else costs 3 % of 0.01 ms.
    assert cost.idle_cells_within(0.03, 8192) == pytest.approx(2000, rel=0.1)
    assert cost.idle_cells_within(0.03, 100) == 100
    assert StepCost(ATTENTION).idle_cells_within(0.03, 8192) == 8192


def test_one_noisy_step_counts_only_a_little() -> None:
    cost = learned({64: 50.0})
    cost.observe(StepShape(64, 0.0), 5000.0)
    assert cost.estimate_ms(StepShape(64, 0.0)) == pytest.approx((0.85 * 50 + 150) / 1.85)
    cost = learned({8: 10.0})
    cost.observe(StepShape(64, 0.0), 50_000.0)
    assert cost.estimate_ms(StepShape(64, 0.0)) == 3 * 80.0, "the first of its kind is doubted too"


def test_a_count_not_seen_for_long_is_guessed_anew() -> None:
    cost = learned({8: 10.0, 64: 200.0})
    for _ in range(600):
        cost.observe(StepShape(8, 0.0), 10.0)
    assert cost.estimate_ms(StepShape(64, 0.0)) == pytest.approx(80.0)


def test_what_was_learned_survives_as_plain_numbers() -> None:
    cost = StepCost(ATTENTION)
    for depth in range(0, 500, 50):
        cost.observe(StepShape(64, depth), 100.0 + 0.05 * depth)
        cost.observe(StepShape(1, depth), 20.0)
    again = StepCost(ATTENTION)
    again.restore(cost.state())
    for shape in (StepShape(1, 40.0), StepShape(64, 900.0), StepShape(128, 10.0)):
        assert again.estimate_ms(shape) == cost.estimate_ms(shape)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"slopes": [0.0]},
        {"slopes": [0.0, 0.0]},
        {"slopes": [0.0, 0.0], "19": [1.0] * 5},
        {"slopes": [0.0, 0.0], "8": [0.0] * 5},
        {"slopes": [0.0, float("nan")], "8": [1.0] * 5},
        {"slopes": [0.0, 0.0], "8": [1.0, 0.0, float("nan"), 0.0, 0.0]},
        {"slopes": [0.0, 0.0], "8": [1.0, 0.0, -5.0, 0.0, 0.0]},
    ],
)
def test_what_is_no_state_is_refused(state: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="not the state"):
        StepCost(ATTENTION).restore(state)


def test_a_long_run_remembers_what_the_last_steps_forget() -> None:
    last, long_run = StepCost(ATTENTION), StepCost(ATTENTION, LONG_RUN)
    for elapsed_ms in [10.0] * 100 + [20.0] * 30:
        for cost in (last, long_run):
            cost.observe(cost.shape(1, 0, 0), elapsed_ms)
    shape = last.shape(1, 0, 0)
    assert last.estimate_ms(shape) == pytest.approx(20, rel=0.01)
    assert long_run.estimate_ms(shape) == pytest.approx((1000 + 600) / 130, rel=0.01)


def test_how_far_steps_scatter_is_known() -> None:
    cost = StepCost(ATTENTION, LONG_RUN)
    for number in range(1000):
        cost.observe(cost.shape(1, 0, 0), 10.0 + (1 if number % 2 else -1))
    assert cost.scatter == pytest.approx(0.1, rel=0.02)
