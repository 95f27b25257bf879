"""Searches for the fastest way to compute a model: one choice after the other, each
against the best so far.

Knows no model and no process: what a way costs it asks of whoever measures. Two ways
are measured in turns, so that whatever else the machine does disturbs both alike, and
compared round by round.
"""

from __future__ import annotations

import enum
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.speeds import Quartiles, Speeds, quartiles

MIN_GAIN = 0.03  # a smaller one is not worth leaving the default for
# plain weights stay mapped from the file, once; repacked or read ones are a copy in
# memory
MIN_GAIN_FOR_MEMORY = 0.05
_PLAINLY_SLOWER = 0.3  # in one round; in n rounds, each of them by a share of 1/n of it


class NotMeasured(Exception):
    """A way to compute that died, computed something else, or took too long: `reason`
    says which of them.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OutOfTime(NotMeasured):
    """The time for the whole search ended within a round."""


Measure = Callable[[Tuning], Speeds]
"""One round of a way to compute. Raises `NotMeasured`."""


@dataclass(frozen=True)
class Trial:
    """One field of `Tuning` and the values to try for it, besides what it has."""

    field: str
    values: tuple[bool | int | None, ...]
    min_gain: float = MIN_GAIN


class Outcome(str, enum.Enum):
    TAKEN = "taken"
    NO_CLEAR_GAIN = "no clear gain"
    FAILED = "failed"
    NO_TIME = "no time"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one value of one choice."""

    field: str  # of `Tuning`
    value: bool | int | None
    outcome: Outcome
    gain: Quartiles | None  # share of the mix's time that it saves; None: not compared
    num_rounds: int
    reason: str  # for people


@dataclass(frozen=True)
class TuningLimits:
    """How much a search may measure."""

    seconds: float  # no comparison begins that would hardly end within them
    least_rounds: int = 3  # of a comparison
    most_rounds: int = 7
    # Compare what was taken with the default once more: of several gains that just
    # passed some passed by chance.
    confirms: bool = True


@dataclass(frozen=True, kw_only=True)
class TuningResult:
    """The best way and its rounds, and the default's; the same where that is best."""

    default: Tuning
    best: Tuning
    default_rounds: tuple[Speeds, ...]
    best_rounds: tuple[Speeds, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def gain(self) -> Quartiles:
        """The share of the default's time that the best saves, from the medians; 0
        where the default is best.
        """
        default, best = (
            quartiles([speeds.mix_s for speeds in rounds])
            for rounds in (self.default_rounds, self.best_rounds)
        )
        return Quartiles(
            1 - best.median / default.median,
            1 - best.high / default.low,
            1 - best.low / default.high,
        )


@dataclass(frozen=True)
class _Comparison:
    """Rounds in pairs, at least one."""

    champion: tuple[Speeds, ...] = ()
    challenger: tuple[Speeds, ...] = ()

    @property
    def gains(self) -> list[float]:
        """The share of time that the challenger saves in each round."""
        return [
            1 - other.mix_s / speeds.mix_s
            for speeds, other in zip(self.champion, self.challenger, strict=True)
        ]

    @property
    def gain(self) -> Quartiles:
        return quartiles(self.gains)

    @property
    def num_rounds(self) -> int:
        return len(self.champion)

    def with_round(self, champion: Speeds, challenger: Speeds) -> _Comparison:
        return _Comparison((*self.champion, champion), (*self.challenger, challenger))

    def is_clear(self, min_gain: float) -> bool:
        """Whether the gain is at least `min_gain`, and more than rounds differ by."""
        gain = self.gain
        return gain.median >= min_gain and gain.median > gain.high - gain.low

    def is_plainly_slower(self) -> bool:
        return max(self.gains) < -_PLAINLY_SLOWER / self.num_rounds


class Tuner:
    """One search. `resolve` says what a `Tuning` means here: ways that mean the same
    are not compared. `clock` gives seconds.
    """

    def __init__(
        self,
        measure: Measure,
        limits: TuningLimits,
        resolve: Callable[[Tuning], Hashable] = lambda tuning: tuning,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._measure = measure
        self._resolve = resolve
        self._limits = limits
        self._clock = clock
        self._deadline_s = clock() + limits.seconds
        # how long they took, but for each way's first, which loads
        self._rounds_s: list[float] = []
        self._rounds: dict[Tuning, list[Speeds]] = defaultdict(list)
        self._verdicts: list[Verdict] = []

    def search(self, default: Tuning, trials: Sequence[Trial]) -> TuningResult:
        """Raises `NotMeasured` where not even the default can be measured."""
        self._timed(default)
        best = default
        num_taken = 0
        for trial in trials:
            for value in trial.values:
                challenger = best.with_values({trial.field: value})
                if self._resolve(challenger) == self._resolve(best):
                    continue
                needs_confirmation = self._limits.confirms and num_taken > 0
                if self._is_better(challenger, best, trial, reserve=needs_confirmation):
                    best, num_taken = challenger, num_taken + 1
        if num_taken > 1 and self._limits.confirms and not self._is_confirmed(best, default):
            best = default
        return self._found(default, best)

    def _is_better(self, challenger: Tuning, best: Tuning, trial: Trial, *, reserve: bool) -> bool:
        """Compares the two, and notes the verdict on what `trial` tries."""
        value = getattr(challenger, trial.field)
        need_s = 2 * self._limits.least_rounds * self._round_s() * (2 if reserve else 1)
        if self._clock() + need_s > self._deadline_s:
            self._note(trial, value, Outcome.NO_TIME, None, "no time was left")
            return False
        try:
            comparison = self._compare(best, challenger, trial.min_gain)
        except OutOfTime as failure:
            self._note(trial, value, Outcome.NO_TIME, None, failure.reason)
            return False
        except NotMeasured as failure:
            self._note(trial, value, Outcome.FAILED, None, failure.reason)
            return False
        if comparison.num_rounds >= self._limits.least_rounds and comparison.is_clear(
            trial.min_gain
        ):
            self._note(trial, value, Outcome.TAKEN, comparison, "a clear gain")
            return True
        self._note(
            trial, value, Outcome.NO_CLEAR_GAIN, comparison, _why_not(comparison, trial.min_gain)
        )
        return False

    def _is_confirmed(self, best: Tuning, default: Tuning) -> bool:
        self._rounds.clear()  # of the search: now both are measured in turns
        comparison = self._compare(default, best, MIN_GAIN)
        if comparison.is_clear(MIN_GAIN):
            return True
        self._verdicts = [
            replace(
                verdict,
                outcome=Outcome.NO_CLEAR_GAIN,
                reason="no clear gain when compared again together with the others",
            )
            if verdict.outcome is Outcome.TAKEN
            else verdict
            for verdict in self._verdicts
        ]
        return False

    def _compare(self, best: Tuning, challenger: Tuning, min_gain: float) -> _Comparison:
        """Until it is clear or the rounds or the time are up. Raises `NotMeasured`."""
        comparison = _Comparison()
        while comparison.num_rounds < self._limits.most_rounds:
            comparison = comparison.with_round(self._timed(best), self._timed(challenger))
            if comparison.is_plainly_slower():
                break
            if comparison.num_rounds < self._limits.least_rounds:
                continue
            if comparison.is_clear(min_gain) or comparison.gain.high < min_gain:
                break
            if self._clock() + 2 * self._round_s() > self._deadline_s:
                break
        return comparison

    def _timed(self, tuning: Tuning) -> Speeds:
        started_s = self._clock()
        speeds = self._measure(tuning)
        if self._rounds[tuning]:
            self._rounds_s.append(self._clock() - started_s)
        self._rounds[tuning].append(speeds)
        return speeds

    def _round_s(self) -> float:
        return statistics.mean(self._rounds_s) if self._rounds_s else 0.0

    def _found(self, default: Tuning, best: Tuning) -> TuningResult:
        while (
            len(self._rounds[default]) < self._limits.least_rounds
            and self._clock() < self._deadline_s
        ):
            try:
                self._timed(default)
            except OutOfTime:
                break
        return TuningResult(
            default=default,
            best=best,
            default_rounds=tuple(self._rounds[default]),
            best_rounds=tuple(self._rounds[best]),
            verdicts=tuple(self._verdicts),
        )

    def _note(
        self,
        trial: Trial,
        value: bool | int | None,
        outcome: Outcome,
        comparison: _Comparison | None,
        reason: str,
    ) -> None:
        gain, num_rounds = (
            (None, 0) if comparison is None else (comparison.gain, comparison.num_rounds)
        )
        self._verdicts.append(
            Verdict(
                field=trial.field,
                value=value,
                outcome=outcome,
                gain=gain,
                num_rounds=num_rounds,
                reason=reason,
            )
        )


def _why_not(comparison: _Comparison, min_gain: float) -> str:
    gain = comparison.gain
    if comparison.is_plainly_slower():
        return "clearly slower"
    if gain.median < min_gain:
        return "slower" if gain.high < 0 else f"gains less than {100 * min_gain:.0f} %"
    return f"rounds vary by {100 * (gain.high - gain.low):.0f} %, more than the gain"
