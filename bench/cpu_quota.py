"""What too many threads cost within a CPU quota: steps in a control group of its own,
by number of threads.

Usage: python -m bench.cpu_quota MODEL.gguf CPUS [THREADS ...]
Makes the group beside its own (so: as root), gives it the time of CPUS processors, and
removes it again.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.fit.machine.cgroup_tree import own_groups
from appliance.llama.checks.stopwatch import TIMING, Stopwatch, TimedContext, TimedModel, Workload
from bench.model_file import model_file

WORK = Workload(depth=0, prompt_rows=64, num_steps=32, streams=4)
LIMIT_S = 600.0
NUM_ROUNDS = 3
PERIOD_US = 100_000


@contextmanager
def group_of(cpus: float) -> Iterator[Path]:
    group = own_groups(Path("/"), "cpu")[0].directory / f"appliance-bench-{os.getpid()}"
    group.mkdir()
    try:
        quota_us = int(cpus * PERIOD_US)
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        else:
            (group / "cpu.cfs_quota_us").write_text(str(quota_us))
        yield group
    finally:
        group.rmdir()


def main(argv: list[str]) -> None:
    model = TimedModel(str(model_file(argv[0])), use_extra_bufts=False, use_mmap=True)
    counts = [int(word) for word in argv[2:]] or [1, 2, 4]
    with group_of(float(argv[1])) as group:
        command = ["sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh", *TIMING]
        with Stopwatch(command) as stopwatch:
            for count in counts * NUM_ROUNDS:
                context = TimedContext(
                    kv_type="f16",
                    threads=count,
                    batch_threads=count,
                    flash_attention=False,
                    ubatch_rows=64,
                )
                times = stopwatch.round(model, context, WORK, LIMIT_S)
                print(
                    f"{count} threads: prompt of {WORK.prompt_rows} tokens {times.prompt_ms:.0f} "
                    f"ms, {in_words(times.alone_ms, 1)}, "
                    f"{in_words(times.together_ms, WORK.streams)}"
                )


def in_words(times_ms: list[float], streams: int) -> str:
    mean, worst = statistics.mean(times_ms), max(times_ms)
    return f"step of {streams} mean {mean:.1f} ms (worst {worst:.1f})"


if __name__ == "__main__":
    main(sys.argv[1:])
