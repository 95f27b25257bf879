"""The choice: the best quantization first, then context, then cells; and a clear no
where nothing fits.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from appliance.errors import BadSettings, NothingFits
from appliance.fit.machine.accelerators import Accelerator
from appliance.fit.machine.device import Device
from appliance.fit.plan.budget import Budget
from appliance.fit.plan.footprint import ServeSize, footprint
from appliance.fit.plan.offload import GpuOverrides
from appliance.fit.plan.overrides import Overrides
from appliance.fit.plan.planner import DraftPlan, Plan, make_plan
from appliance.fit.plan.shape import read_shape
from appliance.fit.tuning.choices import Tuning, ubatch_rows, uses_flash_attention
from appliance.protocol.context_sizes import ContextSizes
from appliance.store.gguf_header import GgufHeader, read_header
from tests.fit.plan.plan_inputs import DEVICE, OVERRIDES, SAMPLE
from tests.store.samples import Sample, Type, write_sample


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> list[GgufHeader]:
    """A model of 16,384 tokens context as Q4_0 and Q8_0, in this order."""
    folder = tmp_path_factory.mktemp("plan")
    small = replace(SAMPLE, file_type=gguf.LlamaFileType.MOSTLY_Q4_0, ggml_type=Type.Q4_0)
    return [
        read_header(write_sample(folder / "m-Q4_0.gguf", small)),
        read_header(write_sample(folder / "m-Q8_0.gguf", SAMPLE)),
    ]


def plan_within(
    headers: list[GgufHeader], usable_bytes: int, overrides: Overrides = OVERRIDES
) -> Plan:
    return make_plan(headers, overrides, DEVICE, Budget(usable_bytes, 0, "for the test"), Tuning())


def need_bytes(header: GgufHeader, kv_cells: int, kv_type: str = "f16") -> int:
    flash = uses_flash_attention(kv_type)
    rows = OVERRIDES.max_batch_rows
    together = ubatch_rows(rows)
    size = ServeSize(
        sizes=ContextSizes(
            kv_cells=kv_cells,
            slots=OVERRIDES.slots,
            max_rows=rows,
            kv_type=kv_type,
            threads=DEVICE.threads,
            flash_attention=flash,
            ubatch_rows=together,
            batch_threads=DEVICE.threads,
        ),
        max_body_bytes=1 << 20,
    )
    return footprint(header, read_shape(header), size).claimed_bytes


def test_with_plenty_the_best_type_with_all_context_for_every_slot(
    headers: list[GgufHeader],
) -> None:
    plan = plan_within(headers, 1 << 34)

    assert (plan.quantization, plan.sizes.kv_type, plan.ctx, plan.sizes.kv_cells) == (
        "Q8_0",
        "f16",
        16384,
        65536,
    )
    assert (plan.sizes.slots, plan.sizes.threads, plan.sizes.max_rows, plan.use_extra_bufts) == (
        4,
        2,
        512,
        False,
    )
    assert plan.model_path.name == "m-Q8_0.gguf"
    assert plan.need.claimed_bytes == need_bytes(headers[1], 65536)
    assert [(c.quantization, c.kv_type, c.chosen) for c in plan.candidates] == [
        ("Q8_0", "f16", True),
        ("Q8_0", "q8_0", False),
        ("Q4_0", "f16", False),
        ("Q4_0", "q8_0", False),
    ]


def test_the_pool_is_what_fits_and_the_context_grows_before_it(headers: list[GgufHeader]) -> None:
    just_20000 = plan_within(headers, need_bytes(headers[1], 20224) + 255)
    just_9000 = plan_within(headers, need_bytes(headers[1], 9216) + 255)

    assert (just_20000.ctx, just_20000.sizes.kv_cells) == (16384, 20224)
    assert (just_9000.ctx, just_9000.sizes.kv_cells) == (9216, 9216)
    assert (
        "context 9216 and a pool of 9216 cells of f16 (36864 would be enough for every slot)"
        in just_9000.reason
    )


def test_at_the_edge_q8_0_kv_saves_the_better_quantization(headers: list[GgufHeader]) -> None:
    edge = need_bytes(headers[1], 4096)

    assert (plan_within(headers, edge).sizes.kv_type, plan_within(headers, edge).ctx) == (
        "f16",
        4096,
    )
    below = plan_within(headers, edge - 1)
    assert (below.quantization, below.sizes.kv_type) == ("Q8_0", "q8_0")
    assert below.candidates[0].reason == "does not fit: 0.0 MiB too large"


def test_a_smaller_quantization_when_the_better_one_does_not_fit(headers: list[GgufHeader]) -> None:
    plan = plan_within(headers, need_bytes(headers[1], 4096, "q8_0") - 1)

    assert (plan.quantization, plan.ctx >= 4096) == ("Q4_0", True)
    assert [c.chosen for c in plan.candidates].index(True) == 3
    ample = plan_within(headers, 1 << 40)
    assert ample.candidates[1].reason == "fits, but f16 KV also fits and is more exact"


def test_nothing_fits_tells_the_smallest_need_and_what_there_is(headers: list[GgufHeader]) -> None:
    least = need_bytes(headers[0], 512, "q8_0")

    with pytest.raises(NothingFits) as refused:
        plan_within(headers, least - 1)
    assert refused.value.exit_code == 3
    assert f"needs {least / (1 << 20):.1f} MiB" in refused.value.message
    assert "(for the test)" in refused.value.message


def test_where_nothing_fits_with_4096_tokens_less_context_is_taken(
    headers: list[GgufHeader],
) -> None:
    least = min(need_bytes(headers[0], 4096, kv_type) for kv_type in ("f16", "q8_0"))

    below = plan_within(headers, least - 1)

    # the best that fits with 2,048, then grown
    assert (below.quantization, below.sizes.kv_type) == ("Q4_0", "q8_0")
    assert 2048 <= below.ctx < 4096
    assert plan_within(headers, need_bytes(headers[0], 512, "q8_0")).ctx == 512


def test_one_slot_is_taken_before_a_lower_quantization(headers: list[GgufHeader]) -> None:
    overrides = replace(OVERRIDES, slots=None)
    edge = need_bytes(headers[1], 4096, "q8_0")

    with_four, with_one = (
        plan_within(headers, edge, overrides),
        plan_within(headers, edge - 1, overrides),
    )

    assert (with_four.quantization, with_four.sizes.kv_type, with_four.sizes.slots) == (
        "Q8_0",
        "q8_0",
        4,
    )
    assert (with_one.quantization, with_one.sizes.kv_type, with_one.sizes.slots) == (
        "Q8_0",
        "q8_0",
        1,
    )
    assert with_one.reason.endswith("(one request at a time, because memory is short).")
    assert plan_within(headers, edge - 1, replace(OVERRIDES, slots=4)).sizes.slots == 4


def test_what_a_gib_more_or_less_would_change_is_reported(headers: list[GgufHeader]) -> None:
    ample, tight = plan_within(headers, 1 << 40), plan_within(headers, need_bytes(headers[1], 4096))

    assert ample.other_budgets == ()
    assert [(other.more_bytes, other.choice) for other in tight.other_budgets] == [
        (1 << 30, "Q8_0, context 16384, 65536 cells of f16, 4 slots"),
        (-1 << 30, "nothing would fit"),
    ]


def test_every_plan_within_a_budget_fits_it(headers: list[GgufHeader]) -> None:
    least = need_bytes(headers[0], 4096, "q8_0")
    for usable in range(least, least + (96 << 20), 7 << 20):
        plan = plan_within(headers, usable)
        assert plan.need.claimed_bytes <= usable
        assert 4096 <= plan.ctx <= plan.sizes.kv_cells <= plan.ctx * 4
        more = need_bytes(plan_header(headers, plan), plan.sizes.kv_cells + 256, plan.sizes.kv_type)
        assert (
            plan.sizes.kv_cells == plan.ctx * 4 or more > usable
        )  # nothing that fits was left unused


def plan_header(headers: list[GgufHeader], plan: Plan) -> GgufHeader:
    return next(header for header in headers if header.path == plan.model_path)


@pytest.mark.parametrize(
    ("overrides", "ctx", "kv_cells", "kv_type"),
    [
        (replace(OVERRIDES, ctx=512), 512, 2048, "f16"),
        (replace(OVERRIDES, kv_cells=5000), 5000, 5120, "f16"),
        (replace(OVERRIDES, ctx=512, kv_cells=512), 512, 512, "f16"),
        (replace(OVERRIDES, kv_type="q8_0"), 16384, 65536, "q8_0"),
        (replace(OVERRIDES, slots=1), 16384, 16384, "f16"),
    ],
)
def test_what_the_user_sets_is_kept(
    headers: list[GgufHeader], overrides: Overrides, ctx: int, kv_cells: int, kv_type: str
) -> None:
    plan = plan_within(headers, 1 << 34, overrides)

    assert (plan.ctx, plan.sizes.kv_cells, plan.sizes.kv_type, plan.sizes.slots) == (
        ctx,
        kv_cells,
        kv_type,
        overrides.slots,
    )


def test_what_the_user_sets_is_never_made_smaller(headers: list[GgufHeader]) -> None:
    budget = need_bytes(headers[1], 4096)

    with pytest.raises(NothingFits, match="context 16384"):
        plan_within(headers, budget, replace(OVERRIDES, ctx=16384, quant="Q8_0", kv_type="f16"))
    assert plan_within(headers, budget, replace(OVERRIDES, quant="Q4_0")).quantization == "Q4_0"


def test_the_largest_body_is_the_users_or_goes_with_the_context(headers: list[GgufHeader]) -> None:
    own = plan_within(headers, 1 << 34)
    own_bound = plan_within(headers, 1 << 34, replace(OVERRIDES, max_body_bytes=3 << 20))
    assert (own.max_body_bytes, own_bound.max_body_bytes) == (1 << 20, 3 << 20)
    assert own_bound.need.parsing_bytes == 3 * own.need.parsing_bytes == 3 * 28 << 20


def test_overrides_that_contradict_the_model(headers: list[GgufHeader], tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"--ctx must be at most 16384 .*got 16385"):
        plan_within(headers, 1 << 34, replace(OVERRIDES, ctx=16385))
    of_all = replace(OVERRIDES, ctx=16385, ctx_is_most=True)
    assert plan_within(headers, 1 << 34, of_all).ctx == 16384
    with pytest.raises(
        BadSettings, match=r"--quant Q6_K is not available .* Available files: Q8_0, Q4_0"
    ):
        plan_within(headers, 1 << 34, replace(OVERRIDES, quant="Q6_K"))
    narrow = [read_header(write_sample(tmp_path / "narrow.gguf", Sample(head_size=8, heads=8)))]
    with pytest.raises(BadSettings, match=r"q8_0 KV is impossible: .* have 8"):
        plan_within(narrow, 1 << 34, replace(OVERRIDES, kv_type="q8_0"))
    assert "impossible" in plan_within(narrow, 1 << 34).candidates[1].reason


def test_a_model_of_short_context_is_served_with_its_own(tmp_path: Path) -> None:
    header = read_header(write_sample(tmp_path / "short.gguf", Sample(train_ctx=500)))

    plan = plan_within([header], 1 << 34)

    assert (plan.ctx, plan.sizes.kv_cells) == (500, 2048)  # 4 x 500 in whole 256
    assert plan.reason.startswith(
        "Q8_0 is the only file and fits with context 500 (all that the model was trained for)"
    )


def test_repacked_copies_count_where_the_path_makes_them(headers: list[GgufHeader]) -> None:
    budget = Budget(1 << 34, 0, "for the test")
    overrides = replace(OVERRIDES, quant="Q4_0")

    plain = make_plan(headers, overrides, DEVICE, budget, Tuning())
    repacked = make_plan(headers, overrides, DEVICE, budget, Tuning(use_extra_bufts=True))

    assert (plain.need.repacked_bytes, repacked.use_extra_bufts) == (0, True)
    assert repacked.need.repacked_bytes == sum(
        t.num_bytes for t in headers[0].tensors if t.ggml_type.name == "Q4_0"
    )


def with_gpu(free_bytes: int) -> Device:
    return replace(
        DEVICE,
        accelerators=(
            Accelerator(
                name="CUDA0",
                description="a GPU",
                kind="GPU",
                memory_total_bytes=free_bytes,
                memory_free_bytes=free_bytes,
            ),
        ),
    )


def test_what_is_on_a_gpu_needs_no_ram(headers: list[GgufHeader]) -> None:
    on_cpu = plan_within(headers, 1 << 34)
    plan = make_plan(
        headers, OVERRIDES, with_gpu(8 << 30), Budget(1 << 34, 0, "for the test"), Tuning()
    )

    assert (plan.placement.offload.gpu_layers, plan.placement.offload.devices) == (5, ("CUDA0",))
    assert (plan.ctx, plan.sizes.kv_cells) == (on_cpu.ctx, on_cpu.sizes.kv_cells)
    embedding = next(t.num_bytes for t in headers[1].tensors if t.name == "token_embd.weight")
    assert plan.need.kv_bytes == 0
    assert plan.need.weights_bytes == embedding
    assert (plan.sizes.flash_attention, plan.sizes.ubatch_rows) == (True, 512), (
        "also for f16 on x86: GPUs have kernels for it"
    )
    assert plan.reason.endswith("All 5 layers with their KV cache fit on CUDA0.")


def test_neither_context_nor_cells_grow_at_the_price_of_a_layer(headers: list[GgufHeader]) -> None:
    free_bytes = (256 << 20) + plan_on(headers, 8 << 30).placement.shares[0].total_bytes - 1
    plan = plan_on(headers, free_bytes)

    assert plan.placement.offload.gpu_layers == 5
    assert plan.ctx == 16384
    assert plan.sizes.kv_cells == 65536 - 256


def plan_on(headers: list[GgufHeader], gpu_free_bytes: int) -> Plan:
    return make_plan(
        headers, OVERRIDES, with_gpu(gpu_free_bytes), Budget(1 << 34, 0, "for the test"), Tuning()
    )


def test_a_file_whose_layers_do_not_fit_as_asked_gives_way_to_one_whose_do(
    headers: list[GgufHeader],
) -> None:
    all_of_them = replace(OVERRIDES, gpu=GpuOverrides(gpu_layers=5), ctx=512, kv_cells=512)
    whole = {h.quantization: sum(t.num_bytes for t in h.tensors) for h in headers}
    between = (256 << 20) + (whole["Q4_0"] + whole["Q8_0"]) // 2
    budget = Budget(1 << 34, 0, "for the test")
    roomy = make_plan(headers, all_of_them, with_gpu(8 << 30), budget, Tuning()).placement.shares[0]
    plan = make_plan(
        headers, all_of_them, with_gpu(between + roomy.compute_bytes), budget, Tuning()
    )

    assert (plan.quantization, plan.placement.offload.gpu_layers) == ("Q4_0", 5)
    assert "does not fit: --gpu-layers 5 does not fit on CUDA0" in plan.candidates[0].reason
    with pytest.raises(
        NothingFits, match=r"--gpu-layers 5 does not fit on CUDA0 \(0\.0 MiB usable\), but 0 would"
    ):
        make_plan(headers, all_of_them, with_gpu(1 << 20), budget, Tuning())


def test_where_no_layer_fits_all_is_as_without_a_gpu(headers: list[GgufHeader]) -> None:
    plan, on_cpu = plan_on(headers, 1 << 20), plan_within(headers, 1 << 34)

    assert plan.reason == f"{on_cpu.reason} No layer fits on CUDA0 (0.0 MiB usable)."
    assert (plan.sizes.flash_attention, plan.sizes.ubatch_rows) == (
        on_cpu.sizes.flash_attention,
        on_cpu.sizes.ubatch_rows,
    )
    assert (plan.need, plan.sizes.kv_cells) == (on_cpu.need, on_cpu.sizes.kv_cells)


def test_a_draft_is_taken_where_it_costs_nothing_but_growth(
    headers: list[GgufHeader], tmp_path: Path
) -> None:
    draft = read_header(write_sample(tmp_path / "draft.gguf", replace(SAMPLE, layers=1)))
    overrides = replace(OVERRIDES, ctx=4096, kv_cells=4096, quant="Q8_0", kv_type="f16")
    alone = need_bytes(headers[1], 4096)

    def plan(usable_bytes: int) -> Plan:
        return make_plan(
            headers, overrides, DEVICE, Budget(usable_bytes, 0, "for the test"), Tuning(), draft
        )

    with_draft = plan(1 << 34)
    assert with_draft.draft == DraftPlan(
        path=draft.path, quantization=draft.quantization, window=512, max_rows=256
    )
    assert with_draft.need.claimed_bytes == alone + with_draft.need.draft_bytes
    both = with_draft.need.claimed_bytes
    assert plan(both) == replace(
        with_draft, budget=plan(both).budget, other_budgets=plan(both).other_budgets
    )
    without = plan(both - 1)
    assert without.draft is not None
    assert (without.draft.missing_bytes, without.need.claimed_bytes, without.need.draft_bytes) == (
        1,
        alone,
        0,
    )


def test_what_a_draft_takes_is_not_grown_into(headers: list[GgufHeader], tmp_path: Path) -> None:
    draft = read_header(write_sample(tmp_path / "draft.gguf", replace(SAMPLE, layers=1)))
    budget = Budget(need_bytes(headers[1], 6000) + (40 << 20), 0, "for the test")
    overrides = replace(OVERRIDES, quant="Q8_0", kv_type="f16")
    alone = make_plan(headers, overrides, DEVICE, budget, Tuning())
    both = make_plan(headers, overrides, DEVICE, budget, Tuning(), draft)
    assert both.draft is not None
    assert not both.draft.missing_bytes
    assert (both.quantization, both.sizes.slots) == (alone.quantization, alone.sizes.slots)
    assert 4096 <= both.sizes.kv_cells < alone.sizes.kv_cells
    assert both.need.claimed_bytes <= budget.usable_bytes
