"""The search for the fastest way to compute,
with scripted speeds and a scripted clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.speeds import Quartiles, Speeds
from appliance.fit.tuning.tuner import (
    NotMeasured,
    Outcome,
    Trial,
    Tuner,
    TuningLimits,
    TuningResult,
)

DEFAULT = Tuning(threads=4)
ONE_ROUND_S = 0.5
LONG = TuningLimits(seconds=1000.0)


def speeds(factor: float) -> Speeds:
    """A machine that takes `factor` times as long
    as the default's 1 ms for everything.
    """
    return Speeds(prompt_token_ms=factor, alone_ms=factor, together_ms=2 * factor, streams=2)


@dataclass
class Script:
    """Answers with times that depend on the way alone, and counts; `clock` goes on by
    half a second each round.
    """

    factor: Callable[[Tuning, int], float]
    now_s: float = 0.0
    rounds: Counter[Tuning] = field(default_factory=Counter)

    def measure(self, tuning: Tuning) -> Speeds:
        self.now_s += ONE_ROUND_S
        self.rounds[tuning] += 1
        return speeds(self.factor(tuning, self.rounds[tuning]))

    def clock(self) -> float:
        return self.now_s


def search(script: Script, *trials: Trial, limits: TuningLimits = LONG) -> TuningResult:
    return Tuner(script.measure, limits, clock=script.clock).search(DEFAULT, trials)


def outcomes(found: TuningResult) -> list[tuple[str, object, Outcome, int, str]]:
    return [(v.field, v.value, v.outcome, v.num_rounds, v.reason) for v in found.verdicts]


def test_a_clear_gain_is_taken_after_the_least_rounds() -> None:
    script = Script(lambda tuning, _: 0.8 if tuning.use_extra_bufts else 1.0)

    found = search(script, Trial("use_extra_bufts", (True,), 0.05))

    assert found.best == replace(DEFAULT, use_extra_bufts=True)
    assert outcomes(found) == [("use_extra_bufts", True, Outcome.TAKEN, 3, "a clear gain")]
    assert found.gain.median == pytest.approx(0.2)
    assert len(found.best_rounds) == 3


def test_less_than_the_least_gain_keeps_the_default() -> None:
    script = Script(lambda tuning, _: 0.96 if tuning.use_extra_bufts else 1.0)

    found = search(script, Trial("use_extra_bufts", (True,), 0.05))

    assert found.best == DEFAULT
    assert outcomes(found) == [
        ("use_extra_bufts", True, Outcome.NO_CLEAR_GAIN, 3, "gains less than 5 %")
    ]
    assert found.gain == Quartiles(0, 0, 0)
    assert search(
        Script(script.factor), Trial("use_extra_bufts", (True,), 0.03)
    ).best.use_extra_bufts


def test_a_gain_within_the_noise_keeps_the_default_after_all_rounds() -> None:
    noisy = (0.7, 1.1, 0.95, 0.75, 1.1, 0.95, 0.9)
    script = Script(lambda tuning, number: noisy[number - 1] if tuning.flash_attention else 1.0)

    found = search(script, Trial("flash_attention", (True,)))

    assert found.best == DEFAULT
    assert outcomes(found) == [
        (
            "flash_attention",
            True,
            Outcome.NO_CLEAR_GAIN,
            7,
            "rounds vary by 20 %, more than the gain",
        )
    ]


def test_one_disturbed_round_does_not_hide_a_gain() -> None:
    script = Script(
        lambda tuning, number: (3.0 if number == 2 else 0.8) if tuning.flash_attention else 1.0
    )

    assert search(script, Trial("flash_attention", (True,))).best.flash_attention is True


def test_what_is_plainly_slower_is_given_up_after_one_round() -> None:
    script = Script(lambda tuning, _: 1.4 if tuning.threads == 1 else 1.0)

    found = search(script, Trial("threads", (1,)))

    assert outcomes(found) == [("threads", 1, Outcome.NO_CLEAR_GAIN, 1, "clearly slower")]
    assert script.rounds[replace(DEFAULT, threads=1)] == 1


def test_a_way_that_dies_is_ruled_out_and_the_rest_goes_on() -> None:
    def factor(tuning: Tuning, _: int) -> float:
        if tuning.use_extra_bufts:
            raise NotMeasured("died of SIGILL")
        return 0.5 if tuning.threads == 3 else 1.0

    found = search(Script(factor), Trial("use_extra_bufts", (True,)), Trial("threads", (3,)))

    assert outcomes(found) == [
        ("use_extra_bufts", True, Outcome.FAILED, 0, "died of SIGILL"),
        ("threads", 3, Outcome.TAKEN, 3, "a clear gain"),
    ]
    assert found.best == replace(DEFAULT, threads=3)


def test_a_default_that_dies_is_an_error() -> None:
    def factor(_tuning: Tuning, _number: int) -> float:
        raise NotMeasured("died of SIGSEGV")

    with pytest.raises(NotMeasured, match="died of SIGSEGV"):
        search(Script(factor), Trial("threads", (3,)))


def test_each_choice_is_compared_with_the_best_so_far_and_the_whole_with_the_default() -> None:
    def factor(tuning: Tuning, _: int) -> float:
        return (0.8 if tuning.use_extra_bufts else 1.0) * (0.9 if tuning.threads == 3 else 1.0)

    script = Script(factor)
    found = search(script, Trial("use_extra_bufts", (True,)), Trial("threads", (3, 2)))

    assert found.best == replace(DEFAULT, use_extra_bufts=True, threads=3)
    assert script.rounds[replace(DEFAULT, threads=3)] == 0
    assert found.gain.median == pytest.approx(0.28)
    assert (len(found.default_rounds), len(found.best_rounds)) == (3, 3)


def test_gains_that_do_not_add_up_are_given_back() -> None:
    """Each beats the one before, as if the machine had become quicker; against the
    default nothing is left.
    """

    def factor(tuning: Tuning, number: int) -> float:
        both = tuning.use_extra_bufts and tuning.threads == 3
        if both and number > 3:
            return 1.0
        return (0.9 if tuning.use_extra_bufts else 1.0) * (0.9 if tuning.threads == 3 else 1.0)

    found = search(Script(factor), Trial("use_extra_bufts", (True,)), Trial("threads", (3,)))

    assert found.best == DEFAULT
    again = "no clear gain when compared again together with the others"
    assert [(v.outcome, v.reason) for v in found.verdicts] == [(Outcome.NO_CLEAR_GAIN, again)] * 2


def test_no_comparison_begins_that_would_not_end_in_time() -> None:
    # A first round of the default, then three rounds of each two ways: half a second
    # each.
    script = Script(lambda tuning, _: 0.5 if tuning.use_extra_bufts else 1.0)
    trials = (Trial("use_extra_bufts", (True,)), Trial("threads", (3,)))

    found = search(script, *trials, limits=TuningLimits(6.0))

    assert outcomes(found) == [
        ("use_extra_bufts", True, Outcome.TAKEN, 3, "a clear gain"),
        ("threads", 3, Outcome.NO_TIME, 0, "no time was left"),
    ]
    assert script.now_s == 3.5


def test_rounds_go_on_only_while_there_is_time() -> None:
    noisy = (0.7, 1.1, 0.95, 0.75, 1.1, 0.95, 0.9)
    script = Script(lambda tuning, number: noisy[number - 1] if tuning.flash_attention else 1.0)

    found = search(script, Trial("flash_attention", (True,)), limits=TuningLimits(4.6))

    assert [verdict.num_rounds for verdict in found.verdicts] == [4]


def test_ways_that_mean_the_same_are_not_compared() -> None:
    script = Script(lambda _tuning, _number: 1.0)
    tuner = Tuner(
        script.measure,
        TuningLimits(1000.0),
        resolve=lambda tuning: tuning.ubatch_rows or 128,
        clock=script.clock,
    )

    found = tuner.search(DEFAULT, [Trial("ubatch_rows", (128, 64))])

    assert [verdict.value for verdict in found.verdicts] == [64]


def test_the_mix_counts_both_users_alike() -> None:
    """512 tokens at 2 ms are 1.024 s; 128 steps of 10 ms are 1.28 s alone, and of 40 ms
    for four, 1.28 s of each.
    """
    one = Speeds(prompt_token_ms=2.0, alone_ms=10.0, together_ms=40.0, streams=4)
    assert (one.alone_s, one.busy_s) == (pytest.approx(2.304), pytest.approx(2.304))
    quicker_together = replace(one, together_ms=4.0)
    assert quicker_together.busy_s == pytest.approx(1.152)
    assert quicker_together.mix_s / one.mix_s == pytest.approx(0.5**0.5)
    assert (one.prefill_tokens_per_s, one.alone_tokens_per_s, one.together_tokens_per_s) == (
        500,
        100,
        100,
    )
