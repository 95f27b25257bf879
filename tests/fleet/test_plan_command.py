"""`appliance fleet plan`, with what a worker wrote down."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from appliance.cli.dispatch import main
from appliance.fleet.measured import read_node
from appliance.protocol.measured_node import NodeDescription, NodeMemory
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
    StepTimes(tmp_path / "step-times", "a", NODE).save(linear_cost(), linear_cost())
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


def test_step_times_of_a_long_run_are_what_is_planned_with(state: Path) -> None:
    last, long_run = linear_cost(), linear_cost()
    last.observe(last.shape(1, 0, 0), 50.0)
    times = StepTimes(state / "step-times", "a", NODE)
    times.note_outside(0.002)
    times.save(last, long_run)
    found = read_node(state / "step-times" / "a.json")
    assert found.steps == long_run.state()
    assert found.outside_ms == 2.0
    cost, long_cost = linear_cost(), linear_cost()
    assert StepTimes(state / "step-times", "a", NODE).load(cost, long_cost)
    assert (cost.state(), long_cost.state()) == (last.state(), long_run.state())


def test_an_earlier_versions_step_times_do_for_both(state: Path) -> None:
    (state / "step-times" / "old.json").write_text(json.dumps(linear_cost().state()))
    cost, long_cost = linear_cost(), linear_cost()
    assert StepTimes(state / "step-times", "old", NODE).load(cost, long_cost)
    assert cost.state() == long_cost.state() == linear_cost().state()


def test_its_answer_is_also_values_for_the_chart(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = NodeMemory(total_bytes=300 << 20, weights_bytes=100 << 20, kv_bytes=50 << 20)
    node = msgspec.structs.replace(NODE, memory=memory, threads=2, host_bytes=20 << 20)
    StepTimes(state / "step-times", "a", node).save(linear_cost(), linear_cost())
    assert run(state, "tiny", "--k8s") == 0
    text = capsys.readouterr().out
    assert "\nplan:\n  totalBytes: 335544320\n  cpus: 2\n" in text
    assert '\nmodel: "tiny"\n' in text
    assert run(state, "tiny", "--k8s", "--json") != 0
    assert "Give either --json or --k8s." in capsys.readouterr().err
