"""The first start with a model measures it,
with real children on the embedded model.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace

import pytest

from appliance.errors import NothingFits
from appliance.fit.machine.device import measure_device
from appliance.fit.plan.budget import Budget
from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.memory import without_memory
from appliance.fit.tuning.record import TuningRecord, TuningRecords
from appliance.launch.files import PreparedModel
from appliance.launch.planning import Launch
from appliance.launch.time_budget import TimeBudget
from appliance.launch.tuning import first_start
from appliance.launch.tuning import run as tuning_run
from appliance.launch.tuning.bench import OtherWork
from appliance.launch.tuning.first_start import tune_at_first_start
from appliance.launch.tuning.recall import recall_tuning, untuned_plan
from appliance.launch.tuning.run import FIRST_START
from appliance.llama.checks.stopwatch import (
    RoundTimes,
    Stopwatch,
    TimedContext,
    TimedModel,
    Untimed,
    Workload,
)
from appliance.settings import ServeSettings
from tests.launch.specs import Events
from tests.launch.tuning.remembered import BOTH_WORK, launch_for


@dataclass
class Others(OtherWork):
    """So much of the CPUs' time is taken by others."""

    taken: float

    def share(self) -> float:
        return self.taken


LONG = replace(FIRST_START, limits=replace(FIRST_START.limits, seconds=200.0))
QUIET = Others(-2.0)  # also where the most is lowered to nothing at all
MEASURING = "measuring how novels-6m-Q8_0.gguf is computed best here (at most 6 s, once)"


def test_the_first_start_measures_and_the_next_does_not(
    settings: ServeSettings, model: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # other tests may run beside this one
    monkeypatch.setattr(first_start, "MAX_OTHERS_SHARE", 2.0)
    monkeypatch.setattr(first_start, "FIRST_START", LONG)
    launch, events = launch_for(settings, model), Events()
    plan = untuned_plan(launch)
    assert recall_tuning(launch, plan) is None

    tune_at_first_start(launch, plan, events, TimeBudget(200.0), QUIET)
    assert events.texts == [MEASURING.replace("6 s", "200 s")]
    record = recall_tuning(launch, plan)
    assert record is not None
    assert record.found is not None
    assert record.conditions.is_short
    assert {verdict.field for verdict in record.found.verdicts} <= {
        "use_extra_bufts",
        "flash_attention",
        "threads",
    }

    path = TuningRecords(settings.state_dir).path(plan.model_path, "f16")
    written = path.stat().st_mtime_ns
    tune_at_first_start(launch, plan, events, TimeBudget(60.0), QUIET)
    assert path.stat().st_mtime_ns == written


def test_a_busy_machine_concludes_nothing_at_the_first_start(
    settings: ServeSettings, model: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_start, "MAX_OTHERS_SHARE", -1.0)
    monkeypatch.setattr(first_start, "FIRST_START", LONG)
    events = Events()
    launch = launch_for(settings, model)
    tune_at_first_start(launch, untuned_plan(launch), events, TimeBudget(200.0), QUIET)
    assert "nothing is concluded" in events.texts[-1]
    assert [event.is_warning for event in events] == [False, True]
    assert not (settings.state_dir / "tuning").exists()


def test_what_cannot_be_measured_is_remembered_as_that(
    settings: ServeSettings, model: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = (sys.executable, "-c", "raise SystemExit('no model')")
    monkeypatch.setattr(tuning_run, "Stopwatch", lambda: Stopwatch(dying))
    monkeypatch.setattr(first_start, "MAX_OTHERS_SHARE", 2.0)
    launch = launch_for(settings, model)
    plan = untuned_plan(launch)
    tune_at_first_start(launch, plan, Events(), TimeBudget(60.0), QUIET)
    record = recall_tuning(launch, plan)
    assert record is not None
    assert (record.found, record.reason, record.tuning) == (
        None,
        "failed with status 1: no model",
        Tuning(),
    )


def test_measuring_needs_memory_too(settings: ServeSettings, model: PreparedModel) -> None:
    machine = measure_device()
    plan = untuned_plan(launch_for(settings, model, BOTH_WORK, machine))

    def impossible(mib: int) -> set[str]:
        budget = Budget(mib << 20, 0, "for the test")
        return {
            field
            for field, _ in without_memory(model.headers[0], replace(plan, budget=budget), machine)
        }

    assert impossible(1024) == set()
    assert impossible(220) == {"use_extra_bufts", "use_mmap"}
    with pytest.raises(
        NothingFits, match=r"^Measuring novels-6m-Q8_0.gguf takes .* only 100.0 MiB"
    ):
        impossible(100)


# --- the clock ------------------------------------------------------------------------


@dataclass
class SlowWatch:
    """A stopwatch on a clock of its own: a round takes `round_s` seconds, a child's
    first one `load_s`, and nothing differs.
    """

    round_s: float
    load_s: float
    now_s: float = 0.0
    timed: list[TimedContext] = field(default_factory=list)

    def __enter__(self) -> SlowWatch:
        return self

    def __exit__(self, *_exception: object) -> None:
        return None

    def clock(self) -> float:
        return self.now_s

    def round(
        self, model: TimedModel, context: TimedContext, work: Workload, limit_s: float
    ) -> RoundTimes:
        cost_s = self.round_s if context in self.timed else self.load_s
        self.now_s += min(cost_s, limit_s)
        if cost_s > limit_s:
            raise Untimed(f"took more than {limit_s:g} s")
        self.timed.append(context)
        return RoundTimes(work.depth, 10.0, [1.0], [2.0])


@dataclass
class Start:
    """Starts of one model, each with 8 seconds on the watch's clock, of which `spent_s`
    went on something else.
    """

    launch: Launch
    monkeypatch: pytest.MonkeyPatch

    def again(self, watch: SlowWatch, spent_s: float = 0.0) -> list[str]:
        self.monkeypatch.setattr(tuning_run, "Stopwatch", lambda: watch)
        budget, events = TimeBudget(clock=watch.clock), Events()
        watch.now_s += spent_s
        tune_at_first_start(self.launch, untuned_plan(self.launch), events, budget, QUIET)
        return events.texts

    @property
    def record(self) -> TuningRecord | None:
        return recall_tuning(self.launch, untuned_plan(self.launch))


@pytest.fixture
def start(settings: ServeSettings, model: PreparedModel, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setattr(first_start, "MAX_OTHERS_SHARE", 2.0)
    device = replace(measure_device(), usable_cores=2, usable_cpus=2, cpu_quota=None)
    return Start(launch_for(settings, model, BOTH_WORK, device), monkeypatch)


def test_a_start_ends_measuring_by_the_clock_and_the_next_ones_go_on(start: Start) -> None:
    watch = SlowWatch(round_s=0.4, load_s=1.5)
    said = start.again(watch)
    assert watch.now_s <= 6.0
    assert said[0] == MEASURING
    assert said[1] == (
        "the measuring stops here, so as not to delay the start: flash attention, threads as by "
        "default, and the next start goes on with it"
    )
    first = start.record
    assert first is not None
    assert first.found is not None
    assert (first.still_open, first.num_starts) == (("flash_attention", "threads"), 1)
    decided = [verdict.field for verdict in first.found.verdicts if verdict.gain is not None]
    assert decided == ["use_extra_bufts"]

    for num_starts, still_open in ((2, ("threads",)), (3, ())):
        began_s = watch.now_s
        start.again(watch)
        assert watch.now_s - began_s <= 6.0
        record = start.record
        assert record is not None
        assert (record.still_open, record.num_starts) == (still_open, num_starts)
    assert record.found is not None
    assert {verdict.field: verdict.num_rounds for verdict in record.found.verdicts} == {
        "use_extra_bufts": 3,
        "flash_attention": 3,
        "threads": 3,
    }
    began_s = watch.now_s
    assert start.again(watch) == []
    assert watch.now_s == began_s


def test_a_model_that_no_start_has_time_for_is_given_up_after_three(start: Start) -> None:
    watch = SlowWatch(round_s=20.0, load_s=20.0)
    for num_starts in (1, 2, 3):
        said = start.again(watch)
        assert watch.now_s == 6.0 * num_starts
        record = start.record
        assert record is not None
        assert (record.found, record.num_starts) == (None, num_starts)
        assert record.still_open == ("use_extra_bufts", "flash_attention", "threads")
        assert record.tuning == Tuning()
    assert said[1].endswith("as by default, and `appliance tune` takes more time for it")
    assert start.again(watch) == []


def test_a_start_that_has_no_seconds_left_leaves_it_to_the_next(start: Start) -> None:
    watch = SlowWatch(round_s=0.1, load_s=0.1)
    [said] = start.again(watch, spent_s=6.5)
    assert said.endswith("it uses the defaults, and the next start measures")
    assert (watch.timed, start.record) == ([], None)
    assert start.again(watch, spent_s=4.0)[0].endswith("(at most 4 s, once)")
    assert start.record is not None


def test_a_busy_machine_does_not_even_begin(
    settings: ServeSettings, model: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning_run, "Stopwatch", None)  # whoever measures fails
    launch, events = launch_for(settings, model), Events()
    tune_at_first_start(launch, untuned_plan(launch), events, TimeBudget(), Others(0.97))
    assert events.texts == [
        "not measured how novels-6m-Q8_0.gguf is computed best, because other programs take 97 % "
        "of the CPUs' time: it uses the defaults, and the next start tries again"
    ]
    assert not (settings.state_dir / "tuning").exists()
