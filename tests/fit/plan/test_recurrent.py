"""States in the plan: as many bytes as llama.cpp takes, and earlier ones for drafts only
where llama.cpp keeps them and they are a small part of the memory.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.fit.plan.budget import Budget
from appliance.fit.plan.footprint import footprint
from appliance.fit.plan.planner import Plan, make_plan
from appliance.fit.plan.shape import read_shape
from appliance.fit.tuning.choices import Tuning
from appliance.llama.checks import DryLoads, ReservedBytes
from appliance.store.gguf_header import GgufHeader, read_header
from bench.memory_kinds import KINDS
from convert.pipeline import Job, convert
from tests.conftest import Embedded
from tests.convert.checkpoints import golden_checkpoint
from tests.fit.plan.plan_inputs import DEVICE, HYBRID, OVERRIDES, size_of

HYBRIDS = ("delta-net", "convolution", "convolution-and-window")


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("kind", HYBRIDS)
def test_cells_and_states_take_what_llama_cpp_says(
    kind: str, kv_type: str, embedded: Embedded, tmp_path: Path
) -> None:
    model = KINDS[kind](embedded.files["Q8_0"], tmp_path / "model.gguf", HYBRID)
    header = read_header(model)
    shape = read_shape(header)
    dry_loads = DryLoads(tmp_path / "dry_loads.json")
    found = {}
    for rollback_states in (0, 2, 4):
        size = size_of(rollback_states, kv_type)
        need = footprint(header, shape, size)
        reserved = dry_loads.reserved(model, size.sizes)
        assert isinstance(reserved, ReservedBytes), reserved
        assert need.kv_bytes == pytest.approx(reserved.kv_bytes, rel=0.01)
        assert need.compute_bytes >= 0.95 * reserved.compute_bytes
        found[rollback_states] = need.kv_bytes
    assert found[4] - found[2] == found[2] - found[0] == 2 * 5 * shape.state.num_bytes


def test_rwkv_has_states_and_nothing_else(tmp_path: Path) -> None:
    job = Job(
        source=golden_checkpoint("rwkv7", tmp_path / "rwkv7"),
        directory=tmp_path,
        name="rwkv7",
        types=("F16",),
        num_threads=1,
    )
    model = convert(job)[0].path
    header = read_header(model)
    shape, size = read_shape(header), size_of(0, "f16")
    need = footprint(header, shape, size)
    reserved = DryLoads(tmp_path / "dry_loads.json").reserved(model, size.sizes)
    assert isinstance(reserved, ReservedBytes), reserved
    assert shape.state.num_bytes == 4 * 2 * (2 * 128 + 64 * 128)
    assert need.kv_bytes == pytest.approx(reserved.kv_bytes, rel=0.01)
    assert need.compute_bytes >= 0.95 * reserved.compute_bytes


def plan(header: GgufHeader, usable_bytes: int, max_draft_rows: int = 32) -> Plan:
    overrides = replace(OVERRIDES, max_draft_rows=max_draft_rows)
    return make_plan([header], overrides, DEVICE, Budget(usable_bytes, 0, "for the test"), Tuning())


def test_earlier_states_are_planned_where_they_take_an_eighth_at_most(
    embedded: Embedded, tmp_path: Path
) -> None:
    model = KINDS["delta-net"](
        embedded.files["Q8_0"], tmp_path / "model.gguf", replace(HYBRID, state=256)
    )
    header = read_header(model)
    state_bytes = read_shape(header).state.num_bytes
    ample, short = 4 * 8 * 5 * state_bytes, 2 * 8 * 5 * state_bytes
    found = plan(header, ample)
    assert (found.sizes.rollback_states, found.sizes.max_draft_rows) == (4, 32)
    assert found.need.claimed_bytes <= ample
    found = plan(header, short)
    assert (found.sizes.rollback_states, found.sizes.max_draft_rows) == (2, 32)
    found = plan(header, short - 1)
    assert (found.sizes.rollback_states, found.sizes.max_draft_rows) == (0, 0)
    found = plan(header, ample, max_draft_rows=0)
    assert (found.sizes.rollback_states, found.sizes.max_draft_rows) == (0, 0)


def test_models_without_states_keep_none(embedded: Embedded) -> None:
    found = plan(read_header(embedded.files["Q8_0"]), 1 << 33)
    assert (found.sizes.rollback_states, found.sizes.max_draft_rows) == (0, 32)
