"""How large one of several models should be, so that as many as can be served well have
room at once.
"""

from __future__ import annotations

from dataclasses import replace

import gguf
import pytest

from appliance.errors import NothingFits
from appliance.fit.plan.budget import Budget
from appliance.fit.plan.footprint import shared_bytes
from appliance.fit.plan.overrides import Overrides
from appliance.fit.plan.planner import Plan, make_plan
from appliance.fit.plan.shares import body_bytes_for_all, longest_ctx, share_of
from appliance.fit.tuning.choices import Tuning
from appliance.store.gguf_header import GgufHeader, read_header
from tests.fit.plan.plan_inputs import DEVICE, OVERRIDES, SAMPLE
from tests.store.samples import Type, write_sample

MIB = 1 << 20
BODY_BYTES = 1 << 20
SHARED_BYTES = shared_bytes(BODY_BYTES)
AUTOMATIC = replace(OVERRIDES, slots=None, max_body_bytes=BODY_BYTES)


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> list[GgufHeader]:
    """A model as Q8_0, Q4_0 and Q2_K."""
    folder = tmp_path_factory.mktemp("shares")
    kinds = (
        ("Q8_0", gguf.LlamaFileType.MOSTLY_Q8_0, Type.Q8_0),
        ("Q4_0", gguf.LlamaFileType.MOSTLY_Q4_0, Type.Q4_0),
        ("Q2_K", gguf.LlamaFileType.MOSTLY_Q2_K, Type.Q2_K),
    )
    sample = replace(SAMPLE, layers=8, embedding=512, feed_forward=8192)
    paths = (
        write_sample(
            folder / f"m-{name}.gguf", replace(sample, file_type=file_type, ggml_type=ggml_type)
        )
        for name, file_type, ggml_type in kinds
    )
    return [read_header(path) for path in paths]


def in_share(
    headers: list[GgufHeader], models_bytes: int, num_models: int, overrides: Overrides = AUTOMATIC
) -> Plan:
    """One of `num_models`, which together may take so
    much beside what is there once.
    """
    budget = Budget(models_bytes + SHARED_BYTES + 7, 7, "for the test")

    def plan_within(part: Budget) -> Plan:
        return make_plan(headers, overrides, DEVICE, part, Tuning())

    return plan_within(share_of(plan_within, budget, SHARED_BYTES, num_models, overrides))


def smallest(headers: list[GgufHeader], quantization: str) -> int:
    """What a model takes for itself with the context and slots that are tried first."""
    overrides = replace(
        AUTOMATIC, quant=quantization, ctx=4096, kv_cells=4096, slots=4, kv_type="f16"
    )
    budget = Budget(1 << 40, 0, "for the test")
    return make_plan(headers, overrides, DEVICE, budget, Tuning()).need.own_bytes


def test_each_gets_its_share_and_no_more(headers: list[GgufHeader]) -> None:
    share_bytes = smallest(headers, "Q8_0") + 30 * MIB
    plan = in_share(headers, 3 * share_bytes, 3)
    assert (plan.quantization, plan.need.shared_bytes) == ("Q8_0", SHARED_BYTES)
    assert share_bytes - 2 * MIB < plan.need.own_bytes <= share_bytes, "grown to fill it"


def test_a_lower_quantization_that_is_good_enough_lets_all_stay(headers: list[GgufHeader]) -> None:
    share_bytes = smallest(headers, "Q8_0") - 10 * MIB
    assert in_share(headers, 2 * share_bytes, 2).quantization != "Q8_0"
    assert in_share(headers, 2 * share_bytes, 1).quantization == "Q8_0"


def test_of_more_models_than_have_room_for_good_ones_as_many_as_have(
    headers: list[GgufHeader],
) -> None:
    models_bytes = 2 * smallest(headers, "Q4_0") + 4 * MIB
    plan = in_share(headers, models_bytes, 10)
    assert plan.quantization == "Q4_0", "though Q2_K would have let in more"
    assert plan.need.own_bytes <= models_bytes // 2


def test_beyond_an_equal_part_a_model_is_not_grown(headers: list[GgufHeader]) -> None:
    models_bytes = int(3.7 * smallest(headers, "Q8_0"))
    plan = in_share(headers, models_bytes, 5)
    assert (plan.quantization, plan.sizes.kv_type) == ("Q4_0", "f16"), (
        "four of it have room, and five of none"
    )
    assert plan.ctx < SAMPLE.train_ctx
    assert plan.need.own_bytes <= 1.1 * smallest(headers, "Q4_0") < models_bytes // 4


def test_where_not_even_one_is_good_it_gets_all(headers: list[GgufHeader]) -> None:
    models_bytes = smallest(headers, "Q2_K") + MIB
    plan = in_share(headers, models_bytes, 4)
    assert plan.quantization == "Q2_K"
    assert plan.need.own_bytes > models_bytes // 2
    with pytest.raises(NothingFits):
        in_share(headers, 10 * MIB, 4)


def test_what_the_user_has_set_and_the_only_file_are_good_enough(headers: list[GgufHeader]) -> None:
    models_bytes = 3 * smallest(headers, "Q2_K") + MIB
    overrides = replace(AUTOMATIC, quant="Q2_K")
    for given, wanted in ((headers, overrides), (headers[2:], AUTOMATIC)):
        assert in_share(given, models_bytes, 3, wanted).need.own_bytes <= models_bytes // 3


@pytest.mark.parametrize(
    ("usable_mib", "ctx", "body_mib"),
    [
        (512, None, 1),
        (4 << 10, None, 4.57),
        (64 << 10, None, 16),
        (64 << 10, 4096, 1),
        (64 << 10, 65536, 4),
    ],
)
def test_bodies_for_all_models_cost_a_small_part_of_the_budget(
    usable_mib: int, ctx: int | None, body_mib: float
) -> None:
    budget = Budget(usable_mib * MIB, 0, "for the test")
    assert body_bytes_for_all(ctx, budget) / MIB == pytest.approx(body_mib, abs=0.01)


def test_bodies_are_bounded_by_the_longest_context_of_all_models() -> None:
    assert longest_ctx([4096, 131072]) == 131072
    assert longest_ctx([4096, None]) is None
    assert longest_ctx([512]) == 512


def test_the_parts_of_a_plan_are_all_of_what_it_takes_for_itself(
    headers: list[GgufHeader],
) -> None:
    need = make_plan(headers, AUTOMATIC, DEVICE, Budget(1 << 34, 7, "for the test"), Tuning()).need
    assert sum(need.own_parts.values()) == need.own_bytes
    assert need.own_parts["KV cache"] == need.kv_bytes
    assert need.own_parts["weights"] == need.weights_bytes
