"""One tuning of a model: decides what to try in which time, and measures.

Knows no table and no flags, and keeps no record.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace

from appliance.errors import BadSettings
from appliance.fit.plan.planner import Plan
from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.memory import without_memory
from appliance.fit.tuning.record import (
    EmptyCache,
    TuningConditions,
    TuningKey,
    TuningRecord,
)
from appliance.fit.tuning.trials import most_important, trials
from appliance.fit.tuning.tuner import (
    Outcome,
    Trial,
    Tuner,
    TuningLimits,
    TuningResult,
    Verdict,
)
from appliance.fit.tuning.workload import LARGEST, SMALL, RoundSize, depth
from appliance.launch.planning import Launch, with_own_tuning
from appliance.launch.time_budget import TimeBudget
from appliance.launch.tuning.bench import OtherWork, Subject, TuningBench
from appliance.launch.tuning.recall import default_tuning, tuning_key
from appliance.llama.checks import CpuPath
from appliance.llama.checks.stopwatch import Stopwatch

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


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a search that several starts share: how long it may take, and what
    those before it found.
    """

    budget: TimeBudget = field(default_factory=lambda: TimeBudget(math.inf))
    earlier: TuningRecord | None = None

    def of(self, tried: list[Trial]) -> list[Trial]:
        """Those that are still open."""
        if self.earlier is None:
            return tried
        return [trial for trial in tried if trial.field in self.earlier.still_open]


def run_tuning(job: TuningJob, extent: Extent, part: Part | None = None) -> TuningRecord:
    """Searches as far as `extent` says; remembers nothing.

    Raises `NothingFits` where there is no memory for a child, `NotMeasured` where the
    default way to compute dies or takes too long, `OutOfTime` where it takes longer
    than `part` has left.
    """
    part = part or Part()
    known = default_tuning(job.launch.machine)
    if part.earlier is not None:
        known = part.earlier.tuning
    default = _default(job, known)
    limits = replace(extent.limits, seconds=min(extent.limits.seconds, part.budget.left_s()))
    tried = _trials(job, default)
    if extent.is_short:
        tried = part.of(most_important(tried))
    possible = [trial for trial in tried if trial.field not in job.impossible]
    others = OtherWork()
    with Stopwatch() as stopwatch:
        limit_s = max(2 * limits.seconds, _LEAST_LIMIT_S)
        bench = TuningBench(stopwatch, _subject(job), limit_s, part.budget.left_s)
        bench.size_rounds(default, _round_s(limits, possible), extent.most)
        tuner = Tuner(bench.measure, limits, bench.resolve, part.budget.clock)
        found = tuner.search(default, possible)
        empty = None if extent.is_short else _at_empty_cache(bench, found, limits.least_rounds)
    decided = _decided(part.earlier)
    found = replace(found, verdicts=(*decided, *_left_out(job, tried), *found.verdicts))
    conditions = replace(
        _conditions(job, extent),
        depth=bench.depth,
        prompt_rows=bench.work.prompt_rows,
        others_share=round(others.share(), 3),
    )
    return TuningRecord(
        key=_key(job),
        conditions=conditions,
        tuning=_taken(found, known),
        found=found,
        empty=empty,
        still_open=tuple(
            verdict.field for verdict in found.verdicts if verdict.outcome is Outcome.NO_TIME
        ),
    )


def _decided(earlier: TuningRecord | None) -> tuple[Verdict, ...]:
    if earlier is None or earlier.found is None:
        return ()
    return tuple(
        verdict for verdict in earlier.found.verdicts if verdict.outcome is not Outcome.NO_TIME
    )


def open_fields(job: TuningJob) -> tuple[str, ...]:
    """What a short search looks at here."""
    default = _default(job, default_tuning(job.launch.machine))
    tried = most_important(_trials(job, default))
    return tuple(trial.field for trial in tried if trial.field not in job.impossible)


def without_result(job: TuningJob, extent: Extent, reason: str) -> TuningRecord:
    """What is remembered where nothing was measured: the defaults."""
    return TuningRecord(
        key=_key(job),
        conditions=_conditions(job, extent),
        tuning=default_tuning(job.launch.machine),
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


def _default(job: TuningJob, known: Tuning) -> Tuning:
    """Every number of threads named, so that each can be tried for itself."""
    default = with_own_tuning(known, job.launch)
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
        kernels=job.launch.machine.kernels,
        confine=job.launch.confine,
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
