"""A file's own heads in the plan: counted where they draft, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.errors import BadSettings
from appliance.fit.plan.budget import Budget
from appliance.fit.plan.footprint import footprint
from appliance.fit.plan.planner import Plan, make_plan
from appliance.fit.plan.shape import can_draft_itself, head_tensors, read_shape
from appliance.fit.tuning.choices import Tuning
from appliance.launch.drafts import check_heads, in_words
from appliance.settings import ModelSettings
from appliance.store.gguf_header import GgufHeader, read_header
from bench.memory_kinds import write_delta_net, write_with_heads
from tests.conftest import Embedded
from tests.fit.plan.plan_inputs import DEVICE, HYBRID, OVERRIDES, size_of


@pytest.fixture(scope="module")
def headers(
    embedded: Embedded, tmp_path_factory: pytest.TempPathFactory
) -> tuple[GgufHeader, GgufHeader]:
    """The same shape with heads and without."""
    folder, vocabulary = tmp_path_factory.mktemp("heads"), embedded.files["Q8_0"]
    return (
        read_header(write_with_heads(vocabulary, folder / "heads.gguf", HYBRID)),
        read_header(write_delta_net(vocabulary, folder / "plain.gguf", HYBRID)),
    )


def plan(header: GgufHeader, usable_bytes: int, *, drafts_itself: bool) -> Plan:
    overrides = replace(OVERRIDES, max_draft_rows=32, drafts_itself=drafts_itself)
    return make_plan([header], overrides, DEVICE, Budget(usable_bytes, 0, "for the test"), Tuning())


def test_heads_that_do_not_draft_take_nothing(headers: tuple[GgufHeader, GgufHeader]) -> None:
    with_heads, plain = (footprint(h, read_shape(h), size_of(2)) for h in headers)
    assert with_heads.weights_bytes == plain.weights_bytes
    assert with_heads.kv_bytes == plain.kv_bytes
    assert [can_draft_itself(header) for header in headers] == [True, False]
    num_head_bytes = sum(tensor.num_bytes for tensor in head_tensors(headers[0]))
    all_bytes = sum(tensor.num_bytes for tensor in headers[0].tensors)
    assert num_head_bytes == all_bytes - plain.weights_bytes > 0
    assert not list(head_tensors(headers[1]))


def test_heads_that_draft_are_in_the_plan(headers: tuple[GgufHeader, GgufHeader]) -> None:
    with_heads, plain = headers
    found = plan(with_heads, 1 << 33, drafts_itself=True)
    assert found.draft is not None
    assert found.draft.is_own
    assert found.sizes.rollback_states == 4
    cells = 4 * found.draft.window * 2 * 2 * HYBRID.kv_heads * HYBRID.head
    assert found.need.draft_bytes > cells + sum(t.num_bytes for t in head_tensors(with_heads))
    assert in_words(found.draft) == (
        "The model's own heads draft, and see at most the last 512 tokens of each request."
    )
    assert plan(with_heads, 1 << 33, drafts_itself=False).draft is None
    assert plan(plain, 1 << 33, drafts_itself=True).draft is None


def test_what_does_not_fit_does_not_draft(headers: tuple[GgufHeader, GgufHeader]) -> None:
    with_heads, _ = headers
    least = plan(with_heads, 1 << 33, drafts_itself=False).candidates[0].need
    assert least is not None
    short = plan(with_heads, least.claimed_bytes, drafts_itself=True)
    assert (short.draft, short.need.draft_bytes, short.sizes.max_draft_rows) == (None, 0, 0)


def test_heads_that_are_not_there_are_asked_for_in_vain(
    headers: tuple[GgufHeader, GgufHeader],
) -> None:
    settings = ModelSettings(draft="mtp")
    check_heads(settings, headers)
    with pytest.raises(BadSettings, match=r"plain\.gguf has none that can"):
        check_heads(settings, headers[1:])


def test_a_file_of_two_such_layers_cannot_draft(headers: tuple[GgufHeader, GgufHeader]) -> None:
    header = headers[0]
    two = replace(header, metadata={**header.metadata, "qwen35.nextn_predict_layers": 2})
    assert not can_draft_itself(two)
