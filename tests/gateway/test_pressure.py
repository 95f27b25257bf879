"""The ladder, told with samples:
which step when, and that it always comes back down.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.pressure import Ladder, Marks, Rung, Sample, describe, prefix_bounds

MIB = 1 << 20
MARKS = Marks.within(100 * MIB)  # pressed below 50 MiB, calm from 75 MiB on


def left(mib: float, stall_percent: float = 0.0) -> Sample:
    return Sample(int(mib * MIB), "of the budget of 1.00 GiB", stall_percent)


def climb(samples: list[Sample], ladder: Ladder) -> dict[int, Rung]:
    """The steps by second, with one sample a second."""
    steps = {second: ladder.step(second, sample) for second, sample in enumerate(samples)}
    return {second: step.rung for second, step in steps.items() if step is not None}


def test_one_rung_at_a_time_with_a_pause_to_see_what_it_helped() -> None:
    ladder = Ladder(MARKS, Rung.FEWER_MODELS)
    steps = climb([left(80), *[left(49)] * 10], ladder)
    assert steps == {
        1: Rung.FEWER_PREFIXES,
        4: Rung.SHORT_PROMPTS,
        7: Rung.FEWER_MODELS,
        10: Rung.FEWER_MODELS,
    }


def test_between_the_marks_nothing_changes() -> None:
    ladder = Ladder(MARKS, Rung.FEWER_MODELS)
    assert climb([left(50)] * 20, ladder) == {}
    assert climb([left(49), *[left(74)] * 100], ladder) == {0: Rung.FEWER_PREFIXES}


def test_down_again_rung_by_rung_after_calm_without_a_break() -> None:
    ladder = Ladder(MARKS, Rung.SHORT_PROMPTS)
    up = [*[left(10)] * 4]  # seconds 0 to 3
    broken = [*[left(75)] * 14, left(74)]  # 4 to 18
    steps = climb([*up, *broken, *[left(75)] * 40], ladder)
    assert steps == {
        0: Rung.FEWER_PREFIXES,
        3: Rung.SHORT_PROMPTS,
        34: Rung.FEWER_PREFIXES,
        49: Rung.CALM,
    }


def test_without_idle_models_to_unload_the_ladder_ends_with_short_prompts() -> None:
    ladder = Ladder(MARKS, Rung.SHORT_PROMPTS)
    assert max(climb([left(0)] * 20, ladder).values()) is Rung.SHORT_PROMPTS


def average(stalls: list[float]) -> list[float]:
    """The kernel's avg10 of such stalls, each for a second."""
    averages, value = [], 0.0
    for stall in stalls:
        value = stall + (value - stall) * math.exp(-1 / 10)
        averages.append(value)
    return averages


def test_a_burst_of_stalls_is_one_step_although_its_average_trails() -> None:
    ladder = Ladder(MARKS, Rung.FEWER_MODELS)
    samples = [left(500, percent) for percent in average([100.0] * 2 + [0.0] * 70)]
    steps = climb(samples, ladder)
    assert list(steps.values()) == [Rung.FEWER_PREFIXES, Rung.CALM]
    assert min(steps) == 1


def test_stalls_that_go_on_climb_as_far_as_need_be() -> None:
    ladder = Ladder(MARKS, Rung.FEWER_MODELS)
    samples = [left(500, percent) for percent in average([60.0] * 3 + [20.0] * 30)]
    assert list(climb(samples, ladder).values())[:3] == [
        Rung.FEWER_PREFIXES,
        Rung.SHORT_PROMPTS,
        Rung.FEWER_MODELS,
    ]


samples = st.builds(
    Sample,
    st.integers(-(1 << 30), 1 << 33),
    st.just(""),
    st.sampled_from([0.0, 0.5, 5.0, 20.0, 90.0]),
)


@given(
    st.lists(st.tuples(st.floats(0.5, 5.0), samples), max_size=60), st.sampled_from(list(Rung)[1:])
)
def test_it_never_skips_a_rung_and_always_comes_back_down(
    history: list[tuple[float, Sample]], top: Rung
) -> None:
    ladder = Ladder(MARKS, top)
    now_s, stepped_s = 0.0, -math.inf
    for passed_s, sample in history:
        now_s += passed_s
        before = ladder.rung
        step = ladder.step(now_s, sample)
        if step is None:
            assert ladder.rung is before
            continue
        assert (step.before, step.rung) == (before, ladder.rung)
        assert ladder.rung <= top
        if step.is_up:
            assert ladder.rung == min(before + 1, top)
            assert now_s - stepped_s >= MARKS.pause_s
            stepped_s = now_s
        else:
            assert ladder.rung == before - 1
            assert sample.left_bytes >= MARKS.high_bytes
    for _ in range(4 * 16):
        now_s += 1
        ladder.step(now_s, left(75))
    assert ladder.rung is Rung.CALM


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 1 << 34)),
    st.integers(-(1 << 34), 50 * MIB - 1),
)
def test_prefixes_give_what_is_short_or_all_there_are(
    held: dict[str, int], left_bytes: int
) -> None:
    bounds = prefix_bounds(held, Sample(left_bytes, ""), MARKS)
    assert bounds.keys() == held.keys()
    assert all(0 <= bounds[name] <= held[name] for name in held)
    given_up = sum(held.values()) - sum(bounds.values())
    assert given_up >= min(MARKS.high_bytes - left_bytes, sum(held.values())) * (1 - 1e-12) - 1


def test_each_model_gives_the_same_share() -> None:
    held = {"novels": 30 * MIB, "verse": 10 * MIB}
    assert prefix_bounds(held, left(55), MARKS) == {"novels": 0, "verse": 0}, (
        "stalls do not tell how much is short"
    )
    assert prefix_bounds(held, left(49), MARKS) == {"novels": 10.5 * MIB, "verse": 3.5 * MIB}


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (left(12), "12.0 MiB left of the budget of 1.00 GiB"),
        (left(-1), "0.0 MiB left of the budget of 1.00 GiB"),
        (
            left(3, 25.4),
            "3.0 MiB left of the budget of 1.00 GiB, everything waited for memory in 25 % of the "
            "last 10 s",
        ),
    ],
)
def test_in_words(sample: Sample, words: str) -> None:
    assert describe(sample) == words
