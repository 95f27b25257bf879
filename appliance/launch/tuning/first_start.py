"""Measures a model when it is served for the first time, in the seconds that a start has.

What there is no time for is left to later starts; on a busy machine, all of it.
"""

from __future__ import annotations

from dataclasses import replace

from appliance.errors import NothingFits
from appliance.fit.plan.planner import Plan
from appliance.fit.tuning.record import TuningRecord, TuningRecords
from appliance.fit.tuning.tuner import NotMeasured, OutOfTime
from appliance.launch.planning import Launch
from appliance.launch.time_budget import TimeBudget
from appliance.launch.tuning.bench import MAX_OTHERS_SHARE, OtherWork
from appliance.launch.tuning.recall import recall_tuning
from appliance.launch.tuning.run import (
    FIRST_START,
    Part,
    TuningJob,
    open_fields,
    run_tuning,
    tuning_job,
    without_result,
)
from appliance.store.event import OnEvent, StoreEvent

_LEAST_S = 2.0  # in less, not even the default is measured
_MOST_STARTS = 3  # that go on with what is open; then the model is too large for them
_WORDS = {
    "use_extra_bufts": "extra buffer types",
    "flash_attention": "flash attention",
    "threads": "threads",
}


def tune_at_first_start(
    launch: Launch, plan: Plan, on_event: OnEvent, budget: TimeBudget, others: OtherWork
) -> None:
    """Measures the most important choices in what `budget` has left, at most 6 seconds,
    unless they are known.

    `plan` is the untuned one; `others` has looked at the machine for a while. What is
    found is remembered, also what there was no time for; but nothing on a busy machine,
    where the next start tries again.
    """
    earlier = None if plan.embeds else recall_tuning(launch, plan)
    if plan.embeds or (earlier is not None and not _goes_on(earlier)):
        return
    share = others.share()
    if share > MAX_OTHERS_SHARE:
        _say_busy(plan, share, on_event)
        return
    if budget.left_s() < _LEAST_S:
        on_event(
            StoreEvent(
                f"not measured how {plan.model_path.name} is computed best, so as not to delay "
                "the start: it uses the defaults, and the next start measures"
            )
        )
        return
    try:
        job = tuning_job(launch, plan)
    except NothingFits as error:
        on_event(StoreEvent(f"not measured, using the defaults: {error.message}", is_warning=True))
        return
    _measure(job, earlier, on_event, budget)


def _goes_on(earlier: TuningRecord) -> bool:
    return bool(earlier.still_open) and earlier.num_starts < _MOST_STARTS


def _say_busy(plan: Plan, share: float, on_event: OnEvent) -> None:
    on_event(
        StoreEvent(
            f"not measured how {plan.model_path.name} is computed best, because other programs "
            f"take {100 * share:.0f} % of the CPUs' time: it uses the defaults, and the next "
            "start tries again"
        )
    )


def _measure(
    job: TuningJob, earlier: TuningRecord | None, on_event: OnEvent, budget: TimeBudget
) -> None:
    seconds = min(FIRST_START.limits.seconds, budget.left_s())
    on_event(
        StoreEvent(
            f"measuring how {job.plan.model_path.name} is computed best here (at most "
            f"{seconds:.0f} s, once)"
        )
    )
    part = Part(budget=TimeBudget(seconds, budget.clock), earlier=earlier)
    record = _record(job, part)
    share = record.conditions.others_share
    if record.found is not None and share > MAX_OTHERS_SHARE:
        on_event(
            StoreEvent(
                "nothing is concluded from it, because other programs took "
                f"{100 * share:.0f} % of the CPUs' time",
                is_warning=True,
            )
        )
        return
    if record.still_open:
        on_event(StoreEvent(_what_is_open(record)))
    elif record.reason:
        on_event(
            StoreEvent(
                f"not measured, using the defaults: {record.reason}. `appliance tune` takes "
                "more time",
                is_warning=True,
            )
        )
    TuningRecords(job.launch.state_dir).remember(job.plan.model_path, record)


def _record(job: TuningJob, part: Part) -> TuningRecord:
    """With what earlier starts found, also where this one finds nothing."""
    earlier = part.earlier
    num_starts = 1 if earlier is None else earlier.num_starts + 1
    try:
        return replace(run_tuning(job, FIRST_START, part), num_starts=num_starts)
    except OutOfTime as failure:
        still_open = open_fields(job) if earlier is None else earlier.still_open
        reason = failure.reason
    except NotMeasured as failure:
        still_open, reason = (), failure.reason
    record = earlier or without_result(job, FIRST_START, reason)
    return replace(record, reason=reason, still_open=still_open, num_starts=num_starts)


def _what_is_open(record: TuningRecord) -> str:
    choices = ", ".join(_WORDS[field] for field in record.still_open)
    later = (
        "the next start goes on with it"
        if _goes_on(record)
        else "`appliance tune` takes more time for it"
    )
    return (
        f"the measuring stops here, so as not to delay the start: {choices} as by default, and "
        f"{later}"
    )
