"""One tuning of a model: decides what to try in which time, measures, keeps the record.

Knows no table and no flags.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from appliance.errors import BadSettings, NothingFits
from appliance.fit.machine.device import Device
from appliance.fit.plan.planner import Plan
from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.memory import without_memory
from appliance.fit.tuning.record import (
    Conditions,
    EmptyCache,
    TuningKey,
    TuningRecord,
    TuningRecords,
)
from appliance.fit.tuning.trials import most_important, trials
from appliance.fit.tuning.tuner import Found, Limits, NotMeasured, Outcome, Trial, Tuner, Verdict
from appliance.fit.tuning.workload import LARGEST, SMALL, RoundSize, depth
from appliance.launch.files import PreparedModel, chosen_by_user, with_own_choices
from appliance.launch.tuning.bench import OtherWork, Subject, TuningBench
from appliance.launch.tuning.recall import default_tuning, plan_untuned, recall_tuning, tuning_key
from appliance.llama.checks import CpuPath, CpuPaths
from appliance.llama.checks.stopwatch import Stopwatch
from appliance.settings import ServeSettings

_log = logging.getLogger(__name__)
# of the CPUs' time; above it, what was measured says more of others than of us
MAX_OTHERS_SHARE = 0.1
_LEAST_LIMIT_S = 15.0  # for one answer; a child's first one includes loading the model


@dataclass(frozen=True)
class Extent:
    """How far to look: for how long, with rounds of which size at most, and whether
    only at what matters most.
    """

    limits: Limits
    most: RoundSize
    is_short: bool


FIRST_START = Extent(Limits(seconds=6.0, most_rounds=3, confirms=False), SMALL, is_short=True)


def whole(seconds: float) -> Extent:
    """Everything there is to try, within about so many seconds."""
    return Extent(Limits(seconds), LARGEST, is_short=False)


@dataclass(frozen=True, kw_only=True)
class TuningJob:
    """A model as it would be served where nothing was measured, and what is known of the machine.

    `impossible` says why a field of `Tuning` cannot be tried.
    """

    settings: ServeSettings
    plan: Plan
    device: Device
    paths: CpuPaths
    impossible: Mapping[str, str]


def tuning_job(
    settings: ServeSettings, model: PreparedModel, device: Device, paths: CpuPaths
) -> TuningJob:
    """Raises what `plan_untuned` raises, `NothingFits` where there is no memory for
    measuring, `BadSettings` for an embedding model.
    """
    plan = plan_untuned(settings, model, device, paths)
    if plan.embeds:
        raise BadSettings(
            f"{plan.model_path.name} is an embedding model, for which there is nothing to be tuned."
        )
    [header] = [header for header in model.headers if header.path == plan.model_path]
    impossible = dict(without_memory(header, plan, device))
    for path in CpuPath:
        if not paths.of(path).usable:
            impossible["use_extra_bufts"] = f"{path.label}: {paths.of(path).finding}"
    return TuningJob(
        settings=settings, plan=plan, device=device, paths=paths, impossible=impossible
    )


def tune_at_first_start(
    settings: ServeSettings, model: PreparedModel, device: Device, paths: CpuPaths
) -> None:
    """Measures the most important choices in a few seconds, unless something is known
    or the user does not want to.

    What is found is remembered, also that there was no time to find anything; but not
    on a busy machine, where the next start tries again. Raises what `plan_untuned`
    raises.
    """
    if settings.no_tune:
        return
    plan = plan_untuned(settings, model, device, paths)
    if plan.embeds or recall_tuning(settings, plan, device, paths) is not None:
        return
    try:
        job = tuning_job(settings, model, device, paths)
    except NothingFits as error:
        _log.warning("not measured, the defaults are used: %s", error.message)
        return
    _log.info(
        "measuring how %s is computed best here (%.0f s, once)",
        plan.model_path.name,
        FIRST_START.limits.seconds,
    )
    record = _first_record(job)
    share = record.conditions.others_share
    if record.found is None:
        _log.warning(
            "not measured, the defaults are used: %s. `appliance tune` takes more time",
            record.reason,
        )
    elif share > MAX_OTHERS_SHARE:
        _log.warning(
            "nothing is concluded from it, for other work took %.0f %% of the CPUs' time",
            100 * share,
        )
        return
    TuningRecords(settings.state_dir).remember(plan.model_path, record)


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
        tuning=_taken(found, default_tuning(job.paths)),
        found=found,
        empty=empty,
    )


def without_result(job: TuningJob, extent: Extent, reason: str) -> TuningRecord:
    """What is remembered where the time did not do: the defaults."""
    return TuningRecord(
        key=_key(job),
        conditions=_conditions(job, extent),
        tuning=default_tuning(job.paths),
        reason=reason,
    )


def _trials(job: TuningJob, default: Tuning) -> list[Trial]:
    plan, fixed = job.plan, chosen_by_user(job.settings)
    return trials(job.device, plan.kv_type, plan.max_batch_rows, default=default, fixed=fixed)


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
    default = with_own_choices(default_tuning(job.paths), job.settings)
    return replace(
        default, batch_threads=default.batch_threads or default.threads or job.device.threads
    )


def _subject(job: TuningJob) -> Subject:
    plan = job.plan
    return Subject(
        model_path=plan.model_path,
        kv_type=plan.kv_type,
        threads=job.device.threads,
        max_batch_rows=plan.max_batch_rows,
        streams=plan.slots,
        depth=depth(plan.ctx, plan.slots),
    )


def _round_s(limits: Limits, tried: list[Trial]) -> float:
    """So long that every comparison, and the last one with the default, has the least
    number of rounds.
    """
    num_comparisons = sum(len(trial.values) for trial in tried) + limits.confirms
    return limits.seconds / (2 * limits.least_rounds * max(num_comparisons, 1))


def _at_empty_cache(bench: TuningBench, found: Found, num_rounds: int) -> EmptyCache:
    """The default and the best once more, in turns, before anything is in the cache."""
    empty = bench.empty_cache()
    pairs = [(empty.measure(found.default), empty.measure(found.best)) for _ in range(num_rounds)]
    return EmptyCache(tuple(default for default, _ in pairs), tuple(best for _, best in pairs))


def _taken(found: Found, default: Tuning) -> Tuning:
    """What was found, without what the user has set: that is to be free again when it
    is not set any more.
    """
    best, before = asdict(found.best), asdict(found.default)
    return default.with_values(
        {field: value for field, value in best.items() if value != before[field]}
    )


def _conditions(job: TuningJob, extent: Extent) -> Conditions:
    subject = _subject(job)
    return Conditions(
        date=datetime.date.today().isoformat(),  # noqa: DTZ011 - the user's own day
        seconds=extent.limits.seconds,
        depth=subject.depth,
        streams=subject.streams,
        is_short=extent.is_short,
    )


def _key(job: TuningJob) -> TuningKey:
    return tuning_key(job.plan, job.device, job.paths)
