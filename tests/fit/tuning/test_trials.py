"""What there is to try on a device: threads within its quota above all."""

from __future__ import annotations

import pytest

from appliance.fit.machine.device import Device
from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.speeds import Speeds
from appliance.fit.tuning.trials import most_important, trials
from appliance.fit.tuning.tuner import Trial
from appliance.fit.tuning.workload import LARGEST, RoundSize, depth, round_size

GIB = 1 << 30


def device(cores: int, cpus: int, quota: float | None = None) -> Device:
    return Device(
        ram_total_bytes=8 * GIB,
        ram_available_bytes=8 * GIB,
        memory_limit=None,
        usable_cpus=cpus,
        usable_cores=cores,
        cpu_quota=quota,
    )


def tried(
    machine: Device, kv_type: str = "f16", rows: int = 512, *fixed: str
) -> dict[str, tuple[object, ...]]:
    default = Tuning(flash_attention=False, batch_threads=machine.threads)
    return {
        trial.field: trial.values
        for trial in trials(machine, kv_type, rows, default=default, fixed=fixed)
    }


def test_everything_on_eight_cores_with_two_threads_each() -> None:
    assert tried(device(8, 16)) == {
        "use_extra_bufts": (True,),
        "flash_attention": (True,),
        "threads": (7, 16, 4),
        "batch_threads": (7, 16, 4),
        "ubatch_rows": (256, 64),
        "use_mmap": (False,),
    }


@pytest.mark.parametrize(
    ("quota", "threads"),
    [(None, (7, 16, 4)), (6.5, (5, 3)), (2.0, (1,)), (1.9, None), (1.0, None), (0.5, None)],
)
def test_never_more_threads_than_the_quota_pays_for(
    quota: float | None, threads: tuple[int, ...] | None
) -> None:
    found = tried(device(8, 16, quota))
    assert (found.get("threads"), found.get("batch_threads")) == (threads, threads)


def test_quantized_kv_leaves_attention_alone_and_what_the_user_set_too() -> None:
    assert "flash_attention" not in tried(device(2, 2), "q8_0")
    assert list(
        tried(device(2, 2), "f16", 512, "threads", "batch_threads", "use_mmap", "flash_attention")
    ) == [
        "use_extra_bufts",
        "ubatch_rows",
    ]
    assert tried(device(2, 2), "q8_0")["ubatch_rows"] == (256, 64)


def test_the_first_start_tries_the_first_value_of_what_matters_most() -> None:
    default = Tuning(flash_attention=False, batch_threads=8)
    all_trials = trials(device(8, 16), "f16", 512, default=default, fixed=())
    assert most_important(all_trials) == [
        Trial("use_extra_bufts", (True,), 0.05),
        Trial("flash_attention", (True,)),
        Trial("threads", (7,)),
    ]


def test_depth_is_half_of_the_longest_request_in_equal_shares() -> None:
    assert (depth(8192, 4), depth(2048, 4), depth(2048, 3)) == (2048, 1024, 1023)


@pytest.mark.parametrize(
    ("token_ms", "step_ms", "size"),
    [
        (0.1, 5.0, RoundSize(512, 32)),
        (1.0, 50.0, RoundSize(512, 5)),
        (2.0, 50.0, RoundSize(256, 5)),
        (100.0, 2000.0, RoundSize(64, 3)),
    ],
)
def test_rounds_of_a_second_hold_what_the_machine_does_in_it(
    token_ms: float, step_ms: float, size: RoundSize
) -> None:
    assert round_size(Speeds(token_ms, step_ms, step_ms, 4), 1.024, LARGEST) == size
