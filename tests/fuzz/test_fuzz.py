"""A minute of the fuzzer; `python -m tests.fuzz 100000` is the whole."""

from __future__ import annotations

import json

from appliance.worker.config import WorkerConfig
from tests.fuzz.cases import case_of
from tests.fuzz.fuzzing import fuzz
from tests.worker.running import config

__all__ = ["config"]  # a fixture

NUM_CASES = 800


def test_a_case_is_the_same_at_every_run() -> None:
    cases = [case_of(7, number) for number in range(200)]
    assert cases == [case_of(7, number) for number in range(200)]
    assert len({case.body for case in cases}) > 190
    assert {case.kind for case in cases} == {
        "schema",
        "lark",
        "gbnf",
        "regex",
        "choice",
        "samplers",
    }


async def test_no_request_costs_the_worker_its_life(config: WorkerConfig) -> None:
    findings = await fuzz(config, 21, range(NUM_CASES))
    found = [(reason, case.path, json.loads(case.body)) for case, reason in findings.harmful]
    assert found == [], "python -m tests.fuzz --seed 21 --only NUMBER repeats one"
    assert findings.num_cases == NUM_CASES
    assert findings.statuses[200] > NUM_CASES // 5
    assert findings.statuses[400] > NUM_CASES // 5
