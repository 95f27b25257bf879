"""The step-time curve: learned, used for the budget, and never spoilt for good by one noisy step."""

from __future__ import annotations

from appliance.engine.cost import StepCost


def learned(curve: dict[int, float]) -> StepCost:
    cost = StepCost()
    for num_rows, elapsed_ms in curve.items():
        cost.observe(num_rows, elapsed_ms)
    return cost


def test_before_anything_is_known_a_modest_number_of_rows_is_tried() -> None:
    assert StepCost().rows_within(100, 512) == 64
    assert StepCost().rows_within(100, 16) == 16


def test_beyond_the_largest_known_count_time_grows_in_proportion() -> None:
    cost = learned({64: 100.0})
    assert cost.estimate_ms(128) == 200.0
    assert cost.rows_within(250, 512) == 128
    assert cost.rows_within(300, 512) == 192


def test_a_plateau_and_a_cliff_are_both_used() -> None:
    cost = learned({32: 300.0, 64: 30.0, 128: 60.0})
    assert cost.rows_within(50, 512) == 96, "64 rows may cost a tenth of 32, and 96 no more in proportion"
    assert cost.rows_within(40, 512) == 64


def test_nothing_fits_when_even_one_row_is_too_slow() -> None:
    assert learned({1: 80.0}).rows_within(50, 512) == 0


def test_one_noisy_step_counts_only_a_little_and_is_forgotten() -> None:
    cost = learned({64: 50.0})
    cost.observe(64, 5000.0)
    assert cost.estimate_ms(64) == 50 + 0.3 * (150 - 50)
    cost = learned({8: 10.0, 64: 5000.0})
    assert cost.rows_within(100, 64) == 48, "one slow large step does not rule out the smaller ones"
    for _ in range(330):
        cost.observe(8, 10.0)
    assert cost.rows_within(100, 64) == 64
