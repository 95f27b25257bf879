"""Measures ways to compute one model file, in children that may die.

Knows which way means what, and no choice.

Joins what `fit` searches through (`Tuning`) with what `llama` times (`TimedModel`,
`TimedContext`).
"""

from __future__ import annotations

import math
import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from appliance.fit.tuning.choices import Tuning, ubatch_rows, uses_flash_attention
from appliance.fit.tuning.speeds import Speeds
from appliance.fit.tuning.tuner import NotMeasured, OutOfTime
from appliance.fit.tuning.workload import SMALLEST, RoundSize, round_size
from appliance.llama.checks.stopwatch import (
    RoundTimes,
    Stopwatch,
    TimedContext,
    TimedModel,
    Untimed,
    Workload,
)
from appliance.protocol.kernel_use import NO_KERNELS, KernelUse

# of the CPUs' time; above it, what was measured says more of others than of us
MAX_OTHERS_SHARE = 0.1
_LEAST_WATCHED_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is computed: `depth` cells are filled before,
    and `streams` answers come at once.

    `threads` is the number for a `Tuning` that names none.
    """

    model_path: Path
    kv_type: str
    threads: int
    max_batch_rows: int
    streams: int
    depth: int
    kernels: KernelUse = NO_KERNELS
    confine: str = "auto"  # the setting


class TuningBench:
    """`appliance.fit.tuning.tuner.Measure` on real children of `stopwatch`; each round
    may take `limit_s` seconds, and all of them what `left_s` says.
    """

    def __init__(
        self,
        stopwatch: Stopwatch,
        subject: Subject,
        limit_s: float,
        left_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._stopwatch = stopwatch
        self._subject = subject
        self._limit_s = limit_s
        self._left_s = left_s
        self.work = Workload(
            subject.depth, SMALLEST.prompt_rows, SMALLEST.num_steps, subject.streams
        )
        self.depth = 0  # of the cells that were really filled

    def size_rounds(self, default: Tuning, round_s: float, most: RoundSize) -> None:
        """From now on rounds take about `round_s` seconds,
        as far as a first small one tells.

        Raises `NotMeasured`.
        """
        most = replace(most, prompt_rows=min(most.prompt_rows, self._subject.max_batch_rows))
        size = round_size(self.measure(default), round_s, most)
        self.work = replace(self.work, prompt_rows=size.prompt_rows, num_steps=size.num_steps)

    def empty_cache(self) -> TuningBench:
        """The same rounds before anything is in the cache."""
        other = TuningBench(self._stopwatch, self._subject, self._limit_s, self._left_s)
        other.work = replace(self.work, depth=0)
        return other

    def measure(self, tuning: Tuning) -> Speeds:
        model, context = self.resolve(tuning)
        left_s = self._left_s()
        if left_s <= 0:
            raise OutOfTime("no time was left")
        try:
            times = self._stopwatch.round(model, context, self.work, min(self._limit_s, left_s))
        except Untimed as failure:
            if self._left_s() <= 0:
                raise OutOfTime("no time was left") from failure
            raise NotMeasured(failure.reason) from failure
        self.depth = times.depth
        return self._speeds(times)

    def resolve(self, tuning: Tuning) -> tuple[TimedModel, TimedContext]:
        """What `tuning` means for this subject."""
        subject = self._subject
        flash_attention = uses_flash_attention(subject.kv_type, tuning.flash_attention)
        rows = ubatch_rows(subject.max_batch_rows, tuning.ubatch_rows)
        threads = tuning.threads or subject.threads
        context = TimedContext(
            kv_type=subject.kv_type,
            threads=threads,
            batch_threads=tuning.batch_threads or threads,
            flash_attention=flash_attention,
            ubatch_rows=min(rows, self.work.prompt_rows),
        )
        model = TimedModel(
            path=str(subject.model_path),
            use_extra_bufts=tuning.use_extra_bufts,
            use_mmap=tuning.use_mmap,
            kernels=subject.kernels,
            confine=subject.confine,
        )
        return model, context

    def _speeds(self, times: RoundTimes) -> Speeds:
        return Speeds(
            prompt_token_ms=times.prompt_ms / self.work.prompt_rows,
            alone_ms=statistics.median(times.alone_ms),
            together_ms=statistics.median(times.together_ms),
            streams=self.work.streams,
        )


class OtherWork:
    """How much of our CPUs' time other processes take,
    from here on until `share` is asked for.

    The kernel counts in hundredths of a second, so that takes half a second at least.
    """

    def __init__(self) -> None:
        every_cpu = range(psutil.cpu_count() or 1)
        self._cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(every_cpu)
        self._started_s, self._busy_s, self._own_s = time.monotonic(), self._busy(), _own_cpu_s()

    def share(self) -> float:
        """0 to 1.

        Our own part is known of children that have ended, so ask after that.
        """
        time.sleep(max(0.0, _LEAST_WATCHED_S - (time.monotonic() - self._started_s)))
        elapsed_s = (time.monotonic() - self._started_s) * len(self._cpus)
        others_s = self._busy() - self._busy_s - (_own_cpu_s() - self._own_s)
        return min(max(others_s / elapsed_s, 0.0), 1.0)

    def _busy(self) -> float:
        per_cpu = psutil.cpu_times(percpu=True)
        return sum(_busy_s(per_cpu[cpu]) for cpu in self._cpus if cpu < len(per_cpu))


def _busy_s(times: Any) -> float:  # a record with other fields on every system
    """What is counted in two fields
    of the kernel's at once (guest, guest_nice) counts once.
    """
    twice_or_idle = ("idle", "iowait", "guest", "guest_nice")
    return float(
        sum(seconds for name, seconds in times._asdict().items() if name not in twice_or_idle)
    )


def _own_cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
