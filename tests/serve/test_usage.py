"""Usage with the embedded model: what a request took is told, and still known when the
server was killed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.serve.server import StartServer, environment

PROMPT = "The old house by the sea had stood empty for many years, " * 12
ASKED = {"prompt": PROMPT, "max_tokens": 24}


def test_what_was_used_outlives_a_killed_server(
    start_server: StartServer, tmp_path: Path, home: Path
) -> None:
    state_dir = tmp_path / "state"
    server = start_server("novels-6m", "--watts", "30", "--state-dir", str(state_dir))
    with httpx.Client(base_url=server.url, timeout=60) as http:
        first = http.post("/v1/completions", json=ASKED).json()["usage"]
        second = http.post("/v1/completions", json=ASKED).json()["usage"]
        # asking for usage writes down what is not written yet
        report = http.get("/usage", params={"by": "model", "price_per_hour": 3600}).json()
    server.process.kill()
    server.process.wait()

    (row,) = report["rows"]
    assert (row["requests"], row["failed"]) == (2, 0)
    assert row["prompt_tokens"] == first["prompt_tokens"] + second["prompt_tokens"]
    assert row["cached_prompt_tokens"] == second["prompt_tokens_details"]["cached_tokens"] > 0
    assert row["completion_tokens"] == first["completion_tokens"] + second["completion_tokens"]
    assert row["prompt_s"] > 0
    assert row["answer_s"] > 0
    assert row["cost"] == pytest.approx(row["machine_s"])
    assert row["energy_j"] == pytest.approx(30 * row["machine_s"])
    told_j = first["x_energy_j"] + second["x_energy_j"]
    assert told_j == pytest.approx(row["energy_j"], abs=0.001)  # each is rounded

    command = [sys.executable, "-m", "appliance", "usage", "--state-dir", str(state_dir)]
    printed = subprocess.run(
        [*command, "--by", "model", "--price-per-hour", "3600", "--json"],
        env=environment(home),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(printed)["rows"] == report["rows"]
