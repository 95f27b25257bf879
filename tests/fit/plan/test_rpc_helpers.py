"""How many layers leave a machine for helpers on others: as few as possible."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.fit.machine.accelerators import Link
from appliance.fit.plan.footprint import BUSY_CODE_BYTES, Footprint
from appliance.fit.plan.offload import Gpu, GpuOverrides
from appliance.fit.plan.placement import Placement
from appliance.fit.plan.placing.layer_assignment import place
from appliance.fit.plan.placing.rpc_helpers import ALL_FITS_HERE, Helping
from tests.fit.plan.placement_inputs import AUTO, MIB, MODEL, gpu

OWN_SPEED = 20e9  # bytes/s
ALL_MIB = 470 + 40 + 30  # of weights, KV cache and computing


def helper(usable_mib: float, name: str = "10.0.0.2:50052", speed: float = 10e9) -> Gpu:
    link = Link(round_trip_s=1e-4, bytes_per_s=1e8, copy_bytes_per_s=speed)
    return replace(gpu(usable_mib, name), link=link)


def in_ram(placement: Placement) -> Footprint:
    """Of what stays here, only what the tests' numbers are made of."""
    host = placement.host
    return Footprint(
        **{
            **dict.fromkeys(Footprint.__dataclass_fields__, 0),
            "weights_bytes": host.weights_bytes,
            "kv_bytes": host.kv_bytes,
            "compute_bytes": host.compute_bytes,
        }
    )


def placed(here_mib: float, *gpus: Gpu, overrides: GpuOverrides = AUTO) -> Placement:
    helping = Helping(int(here_mib * MIB) + BUSY_CODE_BYTES, OWN_SPEED)
    return helping.place(MODEL, gpus, overrides, in_ram)


def layers(placement: Placement) -> dict[str, int]:
    return {share.gpu.name: share.num_layers for share in placement.shares}


def test_where_all_fits_no_helper_is_used() -> None:
    placement = placed(ALL_MIB + 1, helper(1000))
    assert (layers(placement), placement.reason) == ({}, ALL_FITS_HERE)


@pytest.mark.parametrize(
    ("here_mib", "count"),
    # the output layer has 50 MiB and no cache, a block 110 with its own; of the first
    # megabyte less, one layer leaves, and so on
    [(ALL_MIB - 1, 1), (ALL_MIB - 51, 2), (ALL_MIB - 161, 3), (ALL_MIB - 271, 4)],
)
def test_the_fewest_layers_leave(here_mib: float, count: int) -> None:
    placement = placed(here_mib, helper(1000))
    assert layers(placement) == {"10.0.0.2:50052": count}
    assert in_ram(placement).weights_bytes == (470 - 50 - 100 * (count - 1)) * MIB
    assert placement.reason == (
        f"not all of it fits on this machine, so of 5 layers {5 - count} are computed here and "
        f"{count} on 10.0.0.2:50052"
    )


def test_what_fits_nowhere_says_so_by_its_need() -> None:
    placement = placed(10, helper(200))
    assert not Helping(10 * MIB).fits(in_ram(placement))


def test_a_helper_as_fast_as_a_gpu_gets_all_that_fits() -> None:
    placement = placed(10_000, helper(1000, speed=3 * OWN_SPEED))
    assert layers(placement) == {"10.0.0.2:50052": 5}


def test_gpus_of_this_machine_are_filled_first() -> None:
    slow, card = helper(1000), gpu(250, "CUDA0")
    alone = place(MODEL, [card], AUTO)
    assert layers(alone) == {"CUDA0": 2}
    assert layers(placed(ALL_MIB, slow, card)) == {"CUDA0": 2}, "the rest fits here"
    both = placed(300, slow, card)
    assert layers(both) == {"10.0.0.2:50052": 1, "CUDA0": 2}


def test_one_helper_is_filled_before_the_next_from_the_output_layer_on() -> None:
    slow, fast = helper(500, "10.0.0.2:50052", 5e9), helper(250, "10.0.0.3:50052")
    placement = placed(280, slow, fast)
    assert layers(placement) == {"10.0.0.2:50052": 1, "10.0.0.3:50052": 2}
    assert placement.offload.tensor_split == (1.0, 2.0)


def test_what_was_asked_for_goes_there_though_it_would_fit_here() -> None:
    placement = placed(10_000, helper(1000), overrides=GpuOverrides(gpu_layers=3))
    assert layers(placement) == {"10.0.0.2:50052": 3}


def test_without_a_gpu_of_its_own_no_driver_takes_memory() -> None:
    assert placed(ALL_MIB - 1, helper(1000)).host.driver_bytes == 0
