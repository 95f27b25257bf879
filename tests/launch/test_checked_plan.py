"""A plan is made smaller until it fits by llama.cpp's own account."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from appliance.errors import NothingFits
from appliance.fit.machine.device import Device
from appliance.fit.plan.budget import Budget
from appliance.fit.plan.overrides import Overrides
from appliance.fit.plan.planner import Plan, make_plan
from appliance.fit.tuning.choices import Tuning
from appliance.launch.checked_plan import checked_plan
from appliance.llama.checks import DryLoads
from appliance.store.gguf_header import read_header
from appliance.store.synthetic import RandomShape, write_random_model

DEVICE = Device(
    ram_total_bytes=1 << 34,
    ram_available_bytes=1 << 34,
    memory_limit=None,
    usable_cpus=2,
    usable_cores=2,
    cpu_quota=None,
)
BUDGET = Budget(200 << 20, 20 << 20, "for the test")
# Stands for llama.cpp: 20 KiB a cell, whatever arithmetic says. Its arguments: MODEL
# CELLS SLOTS ...
GREEDY = (
    "import json, sys; "
    "print(json.dumps({'kv_bytes': int(sys.argv[2]) * 20480, 'compute_bytes': 0}))"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m-Q8_0.gguf"
    write_random_model(
        path,
        RandomShape(num_layers=2, embd=128, ff=256, heads=4, kv_heads=2, vocab=300, ctx=8192),
        "Q8_0",
    )
    return path


def plan_within(model: Path, budget: Budget) -> Plan:
    return make_plan(
        [read_header(model)], Overrides(max_batch_rows=64, kv_type="q8_0"), DEVICE, budget, Tuning()
    )


def test_llama_cpps_own_account_is_taken_and_remembered(model: Path, tmp_path: Path) -> None:
    memory = tmp_path / "dry.json"

    plan = checked_plan(lambda budget: plan_within(model, budget), BUDGET, DryLoads(memory))

    assert plan.need.is_llama_cpps
    # cells, layers, K and V of two heads
    assert plan.need.kv_bytes == plan.sizes.kv_cells * 2 * (64 + 64) * 34 // 32
    assert len(json.loads(memory.read_bytes())) == 1
    dead = DryLoads(memory, command=("/bin/false",))  # not asked again
    assert checked_plan(lambda budget: plan_within(model, budget), BUDGET, dead) == plan


def test_what_takes_more_than_arithmetic_says_is_made_smaller(model: Path, tmp_path: Path) -> None:
    greedy = DryLoads(tmp_path / "dry.json", command=(sys.executable, "-c", GREEDY))

    plan = checked_plan(lambda budget: plan_within(model, budget), BUDGET, greedy)

    assert plan.need.kv_bytes == plan.sizes.kv_cells * 20480
    assert plan.need.claimed_bytes <= plan.budget.usable_bytes == BUDGET.usable_bytes
    assert 512 <= plan.ctx < plan_within(model, BUDGET).ctx


def test_nothing_fits_once_llama_cpp_is_heard(model: Path, tmp_path: Path) -> None:
    much = DryLoads(
        tmp_path / "dry.json", command=(sys.executable, "-c", GREEDY.replace("20480", "2048000"))
    )

    with pytest.raises(NothingFits):
        checked_plan(lambda budget: plan_within(model, budget), BUDGET, much)


def test_no_answer_is_told_and_arithmetic_stays(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = DryLoads(tmp_path / "dry.json", command=(sys.executable, "-c", "raise SystemExit(3)"))

    plan = checked_plan(lambda budget: plan_within(model, budget), BUDGET, dead)

    assert not plan.need.is_llama_cpps
    assert (
        "m-Q8_0.gguf: planned by arithmetic alone, for a dry load failed with status 3"
        in caplog.text
    )
    assert plan == plan_within(model, BUDGET)
