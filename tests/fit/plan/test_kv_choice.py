"""Which KV type a plan takes where attention of our own computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.fit.plan.budget import Budget
from appliance.fit.plan.overrides import Overrides
from appliance.fit.plan.planner import Plan, make_plan
from appliance.fit.tuning.choices import Tuning
from appliance.store.gguf_header import read_header
from tests.fit.plan.plan_inputs import DEVICE, OVERRIDES, SAMPLE
from tests.store.samples import write_sample

WITH_KERNELS = Tuning(own_kernels=True, own_q8_0_attention=True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "m-Q8_0.gguf", SAMPLE)


def plan(model: Path, tuning: Tuning, overrides: Overrides = OVERRIDES) -> Plan:
    budget = Budget(1 << 40, 0, "for the test")
    return make_plan([read_header(model)], overrides, DEVICE, budget, tuning)


def test_q8_0_comes_first(model: Path) -> None:
    assert [(c.kv_type, c.reason) for c in plan(model, WITH_KERNELS).candidates] == [
        ("q8_0", "chosen"),
        ("f16", "fits, but with our own kernels q8_0 KV is as good and as fast"),
    ]


def test_kernels_without_that_attention_change_nothing(model: Path) -> None:
    assert plan(model, Tuning(own_kernels=True)).sizes.kv_type == "f16"


def test_what_the_user_sets_is_kept(model: Path) -> None:
    wanted = replace(OVERRIDES, kv_type="f16")
    assert plan(model, WITH_KERNELS, wanted).sizes.kv_type == "f16"


def test_heads_that_are_no_whole_blocks_have_f16(tmp_path: Path) -> None:
    narrow = write_sample(tmp_path / "narrow-Q8_0.gguf", replace(SAMPLE, head_size=48))
    candidates = plan(narrow, WITH_KERNELS, replace(OVERRIDES, slots=None)).candidates
    assert [(c.kv_type, c.slots) for c in candidates] == [("f16", 4)]
