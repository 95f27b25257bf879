"""Which layers go to which GPU, by hand for small cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import BadSettings
from appliance.fit.machine.accelerators import Accelerator
from appliance.fit.plan.footprint import Footprint, ServeSize, footprint
from appliance.fit.plan.kv_cache import kv_cell_bytes
from appliance.fit.plan.offload import (
    ALL_LAYERS,
    Gpu,
    GpuOverrides,
    Offload,
    SplitMode,
    usable_gpus,
)
from appliance.fit.plan.placement import DRIVER_BYTES, Placement, demand, ram_need
from appliance.fit.plan.placing.layer_assignment import place
from appliance.fit.plan.placing.layers import layer_bytes
from appliance.fit.plan.shape import read_shape
from appliance.protocol.context_sizes import ContextSizes
from appliance.store.gguf_header import read_header
from tests.fit.plan.placement_inputs import AUTO, GIB, MIB, MODEL, gpu
from tests.store.samples import Sample, write_sample


def counts(placement: Placement) -> list[tuple[str, int]]:
    return [(share.gpu.name, share.num_layers) for share in placement.shares]


def test_headroom_is_the_larger_of_256_mib_and_5_percent() -> None:
    assert Gpu(name="a", description="", free_bytes=8 * GIB).headroom_bytes == int(0.05 * 8 * GIB)
    assert Gpu(name="a", description="", free_bytes=GIB).headroom_bytes == 256 * MIB
    assert Gpu(name="a", description="", free_bytes=100 * MIB).usable_bytes == 0


def test_all_layers_and_their_cache_on_one_gpu_that_just_holds_them() -> None:
    placement = place(MODEL, [gpu(520)], AUTO)  # 4 x (100 + 10) + 50 + 30

    assert placement.offload == Offload(
        gpu_layers=5,
        devices=("CUDA0",),
        split_mode=SplitMode.LAYER,
        tensor_split=(5.0,),
        main_gpu=0,
        kv_on_gpu=True,
    )
    (share,) = placement.shares
    assert (share.weights_bytes, share.kv_bytes, share.compute_bytes) == (
        450 * MIB,
        40 * MIB,
        30 * MIB,
    )
    assert (
        placement.host.weights_bytes,
        placement.host.kv_bytes,
        placement.host.compute_bytes,
    ) == (
        20 * MIB,
        0,
        5 * MIB,
    )
    assert placement.reason == "all 5 layers with their KV cache fit on CUDA0"


def test_a_byte_less_costs_the_first_block() -> None:
    """Of blocks in RAM, large steps copy one tensor at a time to the GPU: 40 MiB more.
    3 x 110 + 50 + 30 + 40 = 450.
    """
    placement = place(MODEL, [gpu(520 - 1 / MIB)], AUTO)

    assert counts(placement) == [("CUDA0", 4)]
    (share,) = placement.shares
    assert (share.weights_bytes, share.kv_bytes, share.compute_bytes) == (
        350 * MIB,
        30 * MIB,
        70 * MIB,
    )
    assert placement.host.weights_bytes == 120 * MIB
    assert (placement.host.kv_bytes, placement.host.compute_bytes) == (10 * MIB, 30 * MIB)
    assert counts(place(MODEL, [gpu(450)], AUTO)) == [("CUDA0", 4)]
    assert counts(place(MODEL, [gpu(449)], AUTO)) == [("CUDA0", 3)]
    assert counts(place(MODEL, [gpu(120)], AUTO)) == [("CUDA0", 1)], (
        "the output layer is the first to go"
    )


def test_where_not_even_the_output_layer_fits_all_is_in_ram() -> None:
    placement = place(MODEL, [gpu(119)], AUTO)

    assert (placement.offload, placement.shares) == (Offload(), ())
    assert placement.host.weights_bytes == 470 * MIB
    assert placement.reason == "no layer fits on CUDA0 (119.0 MiB usable)"
    assert placement.refusal is None


def test_one_gpu_is_enough_where_one_is_enough() -> None:
    assert counts(place(MODEL, [gpu(300), gpu(600, "CUDA1"), gpu(520, "CUDA2")], AUTO)) == [
        ("CUDA1", 5)
    ]


def test_two_gpus_share_by_usable_memory_where_that_fits() -> None:
    """ceil(5 x 450 / 850) = 3 layers.

    All on GPUs, steps are pipelined: three more copies of their inputs on each.
    """
    placement = place(MODEL, [gpu(450), gpu(400, "CUDA1")], AUTO)

    assert counts(placement) == [("CUDA0", 3), ("CUDA1", 2)]
    assert placement.offload.tensor_split == (3.0, 2.0)
    assert [share.total_bytes // MIB for share in placement.shares] == [330 + 45, 160 + 45]
    assert placement.host.compute_bytes == 20 * MIB


def test_else_each_is_filled_before_the_next() -> None:
    """By memory it would be 4 and 1 layers, and 4 x 110 + 45 is more than 400."""
    placement = place(MODEL, [gpu(400), gpu(250, "CUDA1")], AUTO)

    assert counts(placement) == [("CUDA0", 3), ("CUDA1", 2)]
    assert [share.total_bytes // MIB for share in placement.shares] == [375, 205]


def test_a_gpu_too_small_for_any_layer_is_not_even_opened() -> None:
    placement = place(MODEL, [gpu(20), gpu(400, "CUDA1"), gpu(250, "CUDA2")], AUTO)

    assert placement.offload.devices == ("CUDA1", "CUDA2")
    assert placement.offload.tensor_split == (3.0, 2.0)


def test_given_proportions_are_kept() -> None:
    gpu_overrides = GpuOverrides(tensor_split=(1.0, 3.0))
    placement = place(MODEL, [gpu(900), gpu(900, "CUDA1")], gpu_overrides)

    assert counts(placement) == [("CUDA0", 2), ("CUDA1", 3)]  # i / 5 < 1 / 4 for the first two
    # Of five, CUDA1 would have three layers and take 270 + 45; of four, also three, and
    # 40 more for copied weights.
    assert counts(place(MODEL, [gpu(900), gpu(310, "CUDA1")], gpu_overrides)) == [
        ("CUDA0", 1),
        ("CUDA1", 2),
    ]


def test_one_gpu_alone_is_the_main_one_or_the_one_with_the_most_memory() -> None:
    gpus = [gpu(520), gpu(600, "CUDA1")]

    assert counts(place(MODEL, gpus, GpuOverrides(split_mode=SplitMode.NONE))) == [("CUDA1", 5)]
    placement = place(MODEL, gpus, GpuOverrides(split_mode=SplitMode.NONE, main_gpu=0))
    assert placement.offload == Offload(
        gpu_layers=5,
        devices=("CUDA0",),
        split_mode=SplitMode.NONE,
        tensor_split=(5.0,),
        main_gpu=0,
        kv_on_gpu=True,
    )


def test_by_rows_each_holds_its_proportion_of_every_matrix() -> None:
    gpus = [gpu(900, splits_rows=True), gpu(900, "SYCL1", splits_rows=True)]
    placement = place(MODEL, gpus, GpuOverrides(split_mode=SplitMode.ROW, tensor_split=(2.0, 1.0)))

    assert placement.offload.tensor_split == (2.0, 1.0)
    assert [share.weights_bytes for share in placement.shares] == [300 * MIB, 150 * MIB]
    assert [share.kv_bytes for share in placement.shares] == [40 * MIB, 0]  # layers 4 and 1


def test_layers_that_were_asked_for_may_leave_their_cache_in_ram() -> None:
    placement = place(MODEL, [gpu(480)], GpuOverrides(gpu_layers=ALL_LAYERS))

    assert (placement.offload.gpu_layers, placement.offload.kv_on_gpu) == (5, False)
    assert placement.host.kv_bytes == 40 * MIB
    assert placement.host.compute_bytes == 30 * MIB  # attention is computed on the CPU
    assert "without their KV cache" in placement.reason


def test_layers_that_were_asked_for_and_do_not_fit_are_refused_with_the_number_that_would() -> None:
    placement = place(MODEL, [gpu(300)], GpuOverrides(gpu_layers=4))

    assert placement.refusal is not None
    assert (
        "--gpu-layers 4 does not fit on CUDA0 (300.0 MiB usable), but 2 would" in placement.refusal
    )
    assert place(MODEL, [gpu(300)], GpuOverrides(gpu_layers=2)).offload.gpu_layers == 2
    assert place(MODEL, [gpu(600)], GpuOverrides(gpu_layers=0)).offload == Offload()


@pytest.mark.parametrize(
    ("gpu_overrides", "complaint"),
    [
        (
            GpuOverrides(tensor_split=(1.0,)),
            "each of the 2 GPUs .got 1.. The GPUs are 0: CUDA0 .a GPU., 1: ",
        ),
        (
            GpuOverrides(main_gpu=1),
            "--main-gpu 1 is only for --split-mode none .got --split-mode layer.",
        ),
        (
            GpuOverrides(split_mode=SplitMode.NONE, tensor_split=(1.0, 1.0)),
            "--split-mode none uses only one",
        ),
        (GpuOverrides(tensor_split=(0.0, 0.0)), "--tensor-split is 0 for every GPU"),
        (GpuOverrides(split_mode=SplitMode.NONE, main_gpu=2), "--main-gpu 2 does not exist"),
        (
            GpuOverrides(split_mode=SplitMode.ROW),
            "cannot split matrices by rows on CUDA0, CUDA1. Use --split-mode layer",
        ),
    ],
)
def test_what_these_gpus_can_never_do_is_said(gpu_overrides: GpuOverrides, complaint: str) -> None:
    with pytest.raises(BadSettings, match=complaint):
        place(MODEL, [gpu(600), gpu(600, "CUDA1")], gpu_overrides)


def test_integrated_gpus_are_used_where_there_are_no_others() -> None:
    own = Accelerator(
        name="CUDA0",
        description="a card",
        kind="GPU",
        memory_total_bytes=8 * GIB,
        memory_free_bytes=7 * GIB,
    )
    integrated = Accelerator(
        name="Vulkan0",
        description="in the CPU",
        kind="IGPU",
        memory_total_bytes=16 * GIB,
        memory_free_bytes=12 * GIB,
    )
    silent = Accelerator(
        name="CUDA1",
        description="tells no memory",
        kind="GPU",
        memory_total_bytes=0,
        memory_free_bytes=0,
    )

    assert [(g.name, g.shares_ram) for g in usable_gpus([integrated, silent, own], None)] == [
        ("CUDA0", False)
    ]
    assert [(g.name, g.shares_ram) for g in usable_gpus([integrated], None)] == [("Vulkan0", True)]
    assert [(g.name, g.shares_ram) for g in usable_gpus([own], "Apple M3")] == [("CUDA0", True)]
    assert (
        usable_gpus(
            [
                Accelerator(
                    name="BLAS",
                    description="",
                    kind="ACCEL",
                    memory_total_bytes=1,
                    memory_free_bytes=1,
                )
            ],
            None,
        )
        == ()
    )


@pytest.mark.parametrize(("shares_ram", "kept"), [(True, (470, 40, 35)), (False, (20, 0, 5))])
def test_what_shares_the_machines_memory_counts_there_once(
    shares_ram: bool, kept: tuple[int, ...]
) -> None:
    whole = Footprint(
        weights_bytes=470 * MIB,
        repacked_bytes=99 * MIB,
        kv_bytes=40 * MIB,
        compute_bytes=30 * MIB,
        scratch_bytes=6,
        output_bytes=7,
        vocabulary_bytes=8,
        grammar_bytes=0,
        worker_bytes=9,
        parent_bytes=10,
        code_bytes=11,
        parsing_bytes=12,
    )
    need = ram_need(whole, place(MODEL, [gpu(600, shares_ram=shares_ram)], AUTO))

    assert (need.weights_bytes, need.kv_bytes, need.compute_bytes) == tuple(
        size * MIB for size in kept
    )
    assert (need.repacked_bytes, need.worker_bytes) == (0, 9 + DRIVER_BYTES)
    assert ram_need(whole, place(MODEL, [], AUTO)) == whole


def test_layers_of_a_file(tmp_path: Path) -> None:
    """The output is tied: token embeddings stay in RAM, and the GPU gets a copy."""
    header = read_header(write_sample(tmp_path / "m.gguf", Sample(layers=3)))
    shape = read_shape(header)
    size = ServeSize(
        sizes=ContextSizes(
            kv_cells=1000,
            slots=4,
            max_rows=512,
            kv_type="q8_0",
            threads=2,
            flash_attention=True,
            ubatch_rows=512,
            batch_threads=2,
        )
    )
    layers = layer_bytes(header, shape, size)

    by_name = {tensor.name: tensor.num_bytes for tensor in header.tensors}
    block, embedding = by_name["blk.0.ffn_up.weight"], by_name["token_embd.weight"]
    assert layers.weights_bytes == (block, block, block, by_name["output_norm.weight"] + embedding)
    assert (layers.tied_bytes, layers.largest_in_block_bytes) == (embedding, block)
    assert layers.kv_bytes == (1024 * kv_cell_bytes(shape, "q8_0") // 3,) * 3 + (0,)

    placement = place(demand(header, shape, size), [gpu(600)], AUTO)
    assert placement.shares[0].weights_bytes == sum(layers.weights_bytes)
    assert (
        placement.host.weights_bytes
        == sum(by_name.values()) - 3 * block - by_name["output_norm.weight"]
    )
    f16_layer_bytes = 1024 * kv_cell_bytes(replace(shape, num_kv_heads=(2,)), "f16")
    need = footprint(header, shape, size)
    assert (
        placement.shares[0].compute_bytes
        == need.compute_bytes + need.scratch_bytes + f16_layer_bytes
    )
