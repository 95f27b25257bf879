"""What the plan makes of an embedding model: a context by memory, no cells, a row of
logits for each token of it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.errors import BadSettings, NothingFits
from appliance.fit.machine.device import Device
from appliance.fit.plan import embedding
from appliance.fit.plan.budget import Budget
from appliance.fit.plan.overrides import Overrides
from appliance.fit.plan.planner import Plan, make_plan
from appliance.fit.plan.shape import read_shape
from appliance.fit.tuning.choices import Tuning
from appliance.store.gguf_header import GgufHeader, read_header
from tests.store.samples import Sample, write_sample

DEVICE = Device(
    ram_total_bytes=1 << 34,
    ram_available_bytes=1 << 34,
    memory_limit=None,
    usable_cpus=4,
    usable_cores=2,
    cpu_quota=None,
    cpu_flags=frozenset({"avx2"}),
)
OVERRIDES = Overrides(max_batch_rows=512, max_draft_rows=32)
MIB = 1 << 20


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> GgufHeader:
    """A decoder of 8,192 tokens context and a vocabulary of 100,000 that pools."""
    path = tmp_path_factory.mktemp("embedding") / "m-Q8_0.gguf"
    written = read_header(write_sample(path, Sample(layers=2, tokens=100_000, train_ctx=8192)))
    return replace(
        written, metadata={**written.metadata, f"{written.architecture}.pooling_type": 3}
    )


def plan_within(header: GgufHeader, usable_bytes: int, overrides: Overrides = OVERRIDES) -> Plan:
    return make_plan([header], overrides, DEVICE, Budget(usable_bytes, 0, "test"), Tuning())


def test_the_context_is_halved_until_its_logits_are_no_larger_than_256_mib(
    header: GgufHeader,
) -> None:
    plan = plan_within(header, 1 << 34)
    assert (
        plan.embeds,
        plan.ctx,
        plan.sizes.slots,
        plan.sizes.ubatch_rows,
        plan.sizes.max_draft_rows,
    ) == (
        True,
        512,
        1,
        512,
        0,
    )
    assert plan.need.output_bytes == 512 * 4 * (100_000 + read_shape(header).embedding)
    assert plan.need.grammar_bytes == 0
    assert "(--ctx allows up to 8192" in plan.reason


def test_a_context_that_was_asked_for_is_kept(header: GgufHeader) -> None:
    assert plan_within(header, 1 << 34, replace(OVERRIDES, ctx=2048)).need.output_bytes > 780 * MIB
    with pytest.raises(NothingFits, match="embedding inputs of up to 2048 tokens"):
        plan_within(header, 500 * MIB, replace(OVERRIDES, ctx=2048))
    with pytest.raises(BadSettings, match="was trained for"):
        plan_within(header, 1 << 34, replace(OVERRIDES, ctx=9000))


def test_where_memory_is_short_the_context_is_shorter(header: GgufHeader) -> None:
    whole = plan_within(header, 1 << 34)
    less = plan_within(header, whole.need.claimed_bytes - MIB)
    assert less.ctx == 256
    assert less.need.claimed_bytes <= whole.need.claimed_bytes - MIB


def test_which_models_embed(header: GgufHeader) -> None:
    key = f"{header.architecture}.pooling_type"
    assert embedding.embeds(header)
    assert not embedding.embeds(replace(header, metadata={**header.metadata, key: 0}))
    bert = replace(header, metadata={"general.architecture": "bert"})
    assert embedding.embeds(bert)
    assert (embedding.has_cache(header), embedding.has_cache(bert)) == (True, False)


def test_the_graph_of_minilm_is_what_llama_cpp_reserves(header: GgufHeader) -> None:
    """Its compute buffers as llama.cpp 0.3.36 logs them, with flash attention."""
    shape = replace(
        read_shape(header),
        embedding=384,
        feed_forward=1536,
        num_heads=12,
        num_kv_heads=(12,) * 6,
        key_length=32,
        value_length=32,
    )
    plain = replace(header, tensors=())
    for rows, reserved_mib in ((128, 1.38), (256, 2.82), (512, 5.88), (1024, 12.76), (2048, 29.52)):
        assert embedding.graph_bytes(plain, shape, rows) / MIB == pytest.approx(
            reserved_mib, rel=0.02
        )
