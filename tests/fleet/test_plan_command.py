"""`appliance fleet plan`, with what a worker wrote down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.cli.dispatch import main
from appliance.protocol.measured_node import NodeDescription
from appliance.worker.child.step_times import StepTimes
from tests.fleet.nodes import linear_cost

NODE = NodeDescription(
    model="tiny-Q8_0",
    machine="this one",
    ctx=2048,
    slots=4,
    kv_cells=8192,
    max_rows=256,
    kept_cells=6000,
    kept_s=600.0,
    max_stall_ms=250,
)
LOAD = ("--requests-per-day", "50_000", "--prompt", "100", "--answer", "10")


def run(state: Path, *arguments: str) -> int:
    return main(["fleet", "plan", *arguments, *LOAD, "--state-dir", str(state)])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    StepTimes(tmp_path / "step-times", "a", NODE).save(linear_cost())
    return tmp_path


def test_it_plans_with_what_was_measured_here(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = ("--price-per-hour", "0.1", "--watts", "20")
    assert run(state, "tiny", "--json", *costs) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["model"], record["machine"]) == ("tiny-Q8_0", "this one")
    assert record["nodes"] >= record["nodes_on_paper"] >= 1
    assert record["day"]["cost"] == pytest.approx(record["nodes"] * 2.4)
    assert record["day"]["kwh"] == pytest.approx(record["nodes"] * 0.48)
    assert run(state, "TINY-q8") == 0
    text = capsys.readouterr().out
    assert "tiny-Q8_0 on this one, served with 4 slots and 2048 tokens" in text
    assert "50,000 requests a day" in text
    assert "enough" in text


def test_another_machines_file_will_do(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state / "elsewhere", "--node", str(state / "step-times" / "a.json")) == 0
    assert "tiny-Q8_0 on this one" in capsys.readouterr().out


def test_what_cannot_be_planned_says_why(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / "step-times" / "old.json").write_text(json.dumps(linear_cost().state()))
    cases = {
        ("unknown",): "was not measured yet. Serve it once (`appliance serve unknown`), or give "
        "--node FILE. Measured so far: tiny-Q8_0.",
        ("--node", str(state / "step-times" / "old.json")): "holds no measured node",
        ("--node", str(state / "none.json")): "cannot be read: No such file",
        (): "Give either a MODEL that was served here, or --node FILE.",
        ("tiny", "--first-token-s", "0.01"): "No number of nodes changes that",
    }
    for arguments, message in cases.items():
        assert run(state, *arguments) != 0
        assert message in capsys.readouterr().err


def test_step_times_with_a_description_are_taken_back(state: Path) -> None:
    cost, old = linear_cost(), linear_cost()
    assert StepTimes(state / "step-times", "a", NODE).load(cost)
    assert cost.state() == old.state()
