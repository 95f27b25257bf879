"""Which ways to compute are to be tried on a device.

Knows no measurement and no model but its KV type.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from appliance.fit.machine.device import Device
from appliance.fit.tuning.choices import Tuning, ubatch_rows, uses_flash_attention
from appliance.fit.tuning.tuner import MIN_GAIN_FOR_MEMORY, Trial

_LEAST_ROWS = 64  # attention's quick path begins here: fewer together never pay


def trials(
    device: Device, kv_type: str, max_batch_rows: int, *, default: Tuning, fixed: Collection[str]
) -> list[Trial]:
    """Every choice with the values to try beside what `default` means here, what
    matters most first.

    Fields of `Tuning` in `fixed` are the user's.
    """
    attention = uses_flash_attention(kv_type, default.flash_attention)
    possible = [
        Trial("use_extra_bufts", (not default.use_extra_bufts,), MIN_GAIN_FOR_MEMORY),
        Trial("flash_attention", (not attention,) if kv_type == "f16" else ()),
        Trial("threads", tuple(_thread_counts(device, default.threads or device.threads))),
        Trial(
            "batch_threads", tuple(_thread_counts(device, default.batch_threads or device.threads))
        ),
        Trial("ubatch_rows", tuple(_row_counts(ubatch_rows(max_batch_rows), max_batch_rows))),
        Trial("use_mmap", (not default.use_mmap,), MIN_GAIN_FOR_MEMORY),
    ]
    return [trial for trial in possible if trial.values and trial.field not in fixed]


def most_important(all_trials: list[Trial]) -> list[Trial]:
    """Those for a few seconds:
    what differs most between machines, one value of each.
    """
    fields = ("use_extra_bufts", "flash_attention", "threads")
    return [
        Trial(trial.field, trial.values[:1], trial.min_gain)
        for trial in all_trials
        if trial.field in fields
    ]


def _thread_counts(device: Device, default: int) -> Iterator[int]:
    """Other numbers of threads: all cores, one core left to others, every logical CPU,
    half of them.

    Never more than the quota pays for: threads that have used it up sleep while the
    others wait for them, and a step takes tens of times as long (docs/guide/tune.md).
    """
    paid_for = math.inf if device.cpu_quota is None else max(1, math.floor(device.cpu_quota))
    seen = {default}
    for count in (device.usable_cores, default - 1, device.usable_cpus, default // 2):
        if 1 <= count <= paid_for and count not in seen:
            seen.add(count)
            yield count


def _row_counts(by_rule: int, most: int) -> Iterator[int]:
    """Twice as many as by rule, and half as many:
    what is far from it is seldom better.
    """
    yield from (rows for rows in (2 * by_rule, by_rule // 2) if _LEAST_ROWS <= rows <= most)
