"""One tuning of a model: decides what to try in which time, measures, keeps the record.

Knows no table and no flags.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from appliance.errors import BadSettings, NothingFits
from appliance.fit.plan.planner import Plan
from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.memory import without_memory
from appliance.fit.tuning.record import (
    EmptyCache,
    TuningConditions,
    TuningKey,
    TuningRecord,
    TuningRecords,
)
from appliance.fit.tuning.trials import most_important, trials
from appliance.fit.tuning.tuner import (
    NotMeasured,
    Outcome,
    Trial,
    Tuner,
    TuningLimits,
    TuningResult,
    Verdict,
)
from appliance.fit.tuning.workload import LARGEST, SMALL, RoundSize, depth
from appliance.launch.planning import Launch, with_own_tuning
from appliance.launch.tuning.bench import OtherWork, Subject, TuningBench
from appliance.launch.tuning.recall import default_tuning, recall_tuning, tuning_key
from appliance.llama.checks import CpuPath
from appliance.llama.checks.stopwatch import Stopwatch
from appliance.store.event import OnEvent, StoreEvent

# of the CPUs' time; above it, what was measured says more of others than of us
MAX_OTHERS_SHARE = 0.1
_LEAST_LIMIT_S = 15.0  # for one answer; a child's first one includes loading the model


@dataclass(frozen=True)
class Extent:
    """How far to look: for how long, with rounds of which size at most, and whether
    only at what matters most.
    """

    limits: TuningLimits
    most: RoundSize
    is_short: bool


FIRST_START = Extent(TuningLimits(seconds=6.0, most_rounds=3, confirms=False), SMALL, is_short=True)


def whole(seconds: float) -> Extent:
    """Everything there is to try, within about so many seconds."""
    return Extent(TuningLimits(seconds), LARGEST, is_short=False)


@dataclass(frozen=True, kw_only=True)
class TuningJob:
    """A model as it would be served where nothing was measured."""

    launch: Launch
    plan: Plan
    impossible: Mapping[str, str]  # by field of `Tuning`: why it cannot be tried


def tuning_job(launch: Launch, plan: Plan) -> TuningJob:
    """`plan` is the untuned one.

    Raises `NothingFits` where there is no memory for measuring, `BadSettings` for an
    embedding model.
    """
    machine = launch.machine
    if plan.embeds:
        raise BadSettings(
            f"{plan.model_path.name} is an embedding model, for which there is nothing to tune."
        )
    [header] = [header for header in launch.model.headers if header.path == plan.model_path]
    impossible = dict(without_memory(header, plan, machine.device))
    for path in CpuPath:
        if not machine.paths.of(path).usable:
            impossible["use_extra_bufts"] = f"{path.label}: {machine.paths.of(path).finding}"
    return TuningJob(launch=launch, plan=plan, impossible=impossible)


def tune_at_first_start(launch: Launch, plan: Plan, on_event: OnEvent) -> None:
    """Measures the most important choices in a few seconds, unless something is known.

    `plan` is the untuned one. What is found is remembered, also that there was no time
    to find anything; but not on a busy machine, where the next start tries again.
    """
    if plan.embeds or recall_tuning(launch, plan) is not None:
        return
    try:
        job = tuning_job(launch, plan)
    except NothingFits as error:
        on_event(StoreEvent(f"not measured, using the defaults: {error.message}", is_warning=True))
        return
    on_event(
        StoreEvent(
            f"measuring how {plan.model_path.name} is computed best here "
            f"({FIRST_START.limits.seconds:.0f} s, once)"
        )
    )
    record = _first_record(job)
    share = record.conditions.others_share
    if record.found is None:
        on_event(
            StoreEvent(
                f"not measured, using the defaults: {record.reason}. `appliance tune` takes "
                "more time",
                is_warning=True,
            )
        )
    elif share > MAX_OTHERS_SHARE:
        on_event(
            StoreEvent(
                "nothing is concluded from it, because other programs took "
                f"{100 * share:.0f} % of the CPUs' time",
                is_warning=True,
            )
        )
        return
    TuningRecords(launch.state_dir).remember(plan.model_path, record)


def _first_record(job: TuningJob) -> TuningRecord:
    try:
        return run_tuning(job, FIRST_START)
    except NotMeasured as failure:
        return without_result(job, FIRST_START, failure.reason)


def run_tuning(job: TuningJob, extent: Extent) -> TuningRecord:
    """Searches as far as `extent` says; remembers nothing.

    Raises `NothingFits` where there is no memory for a child, `NotMeasured` where the
    default way to compute dies or takes too long.
    """
    default, limits = _default(job), extent.limits
    tried = _trials(job, default)
    if extent.is_short:
        tried = most_important(tried)
    possible = [trial for trial in tried if trial.field not in job.impossible]
    others = OtherWork()
    with Stopwatch() as stopwatch:
        bench = TuningBench(stopwatch, _subject(job), max(2 * limits.seconds, _LEAST_LIMIT_S))
        bench.size_rounds(default, _round_s(limits, possible), extent.most)
        found = Tuner(bench.measure, limits, bench.resolve).search(default, possible)
        empty = None if extent.is_short else _at_empty_cache(bench, found, limits.least_rounds)
    found = replace(found, verdicts=(*_left_out(job, tried), *found.verdicts))
    conditions = replace(
        _conditions(job, extent),
        depth=bench.depth,
        prompt_rows=bench.work.prompt_rows,
        others_share=round(others.share(), 3),
    )
    return TuningRecord(
        key=_key(job),
        conditions=conditions,
        tuning=_taken(found, default_tuning(job.launch.machine.paths)),
        found=found,
        empty=empty,
    )


def without_result(job: TuningJob, extent: Extent, reason: str) -> TuningRecord:
    """What is remembered where the time did not do: the defaults."""
    return TuningRecord(
        key=_key(job),
        conditions=_conditions(job, extent),
        tuning=default_tuning(job.launch.machine.paths),
        reason=reason,
    )


def _trials(job: TuningJob, default: Tuning) -> list[Trial]:
    plan, fixed = job.plan, frozenset(job.launch.own_tuning)
    return trials(
        job.launch.machine.device,
        plan.sizes.kv_type,
        plan.sizes.max_rows,
        default=default,
        fixed=fixed,
    )


def _left_out(job: TuningJob, tried: list[Trial]) -> Iterator[Verdict]:
    for trial in tried:
        reason = job.impossible.get(trial.field)
        if reason:
            yield from (
                Verdict(
                    field=trial.field,
                    value=value,
                    outcome=Outcome.FAILED,
                    gain=None,
                    num_rounds=0,
                    reason=reason,
                )
                for value in trial.values
            )


def _default(job: TuningJob) -> Tuning:
    """Every number of threads named, so that each can be tried for itself."""
    default = with_own_tuning(default_tuning(job.launch.machine.paths), job.launch)
    return replace(
        default,
        batch_threads=default.batch_threads or default.threads or job.launch.machine.device.threads,
    )


def _subject(job: TuningJob) -> Subject:
    plan = job.plan
    return Subject(
        model_path=plan.model_path,
        kv_type=plan.sizes.kv_type,
        threads=job.launch.machine.device.threads,
        max_batch_rows=plan.sizes.max_rows,
        streams=plan.sizes.slots,
        depth=depth(plan.ctx, plan.sizes.slots),
    )


def _round_s(limits: TuningLimits, tried: list[Trial]) -> float:
    """So long that every comparison, and the last one with the default, has the least
    number of rounds.
    """
    num_comparisons = sum(len(trial.values) for trial in tried) + limits.confirms
    return limits.seconds / (2 * limits.least_rounds * max(num_comparisons, 1))


def _at_empty_cache(bench: TuningBench, found: TuningResult, num_rounds: int) -> EmptyCache:
    """The default and the best once more, in turns, before anything is in the cache."""
    empty = bench.empty_cache()
    pairs = [(empty.measure(found.default), empty.measure(found.best)) for _ in range(num_rounds)]
    return EmptyCache(tuple(default for default, _ in pairs), tuple(best for _, best in pairs))


def _taken(found: TuningResult, default: Tuning) -> Tuning:
    """What was found, without what the user has set: that is to be free again when it
    is not set any more.
    """
    best, before = asdict(found.best), asdict(found.default)
    return default.with_values(
        {field: value for field, value in best.items() if value != before[field]}
    )


def _conditions(job: TuningJob, extent: Extent) -> TuningConditions:
    subject = _subject(job)
    return TuningConditions(
        date=datetime.date.today().isoformat(),  # noqa: DTZ011 - the user's own day
        seconds=extent.limits.seconds,
        depth=subject.depth,
        streams=subject.streams,
        is_short=extent.is_short,
    )


def _key(job: TuningJob) -> TuningKey:
    return tuning_key(job.plan, job.launch.machine)
