"""A minute of load and faults, and a few kills; `python -m tests.soak --minutes 30` and
`python -m tests.soak.kills 200` are the whole.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.soak.faults.table import FAULTS
from tests.soak.house import house_in
from tests.soak.kills import Killing
from tests.soak.soak import Plan, Soak

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

# Those that are over within seconds.
_QUICK = (
    *("worker killed", "disk full", "clock step", "no descriptors", "damaged files"),
    *("damaged keys", "damaged files at the start"),
)


async def test_everybody_gets_one_answer_or_one_clear_error(tmp_path: Path) -> None:
    faults = [FAULTS[name] for name in _QUICK]
    plan = Plan(
        seconds=0,
        calm_s=1.5,
        longest_hold_s=1,
        num_clients=6,
        faults=faults,
        seed=24,
        pauses=False,  # which would take as long again
    )
    with house_in(tmp_path, prefix_ttl_s=2) as house:
        report = await Soak(house, plan).run()
    assert report.findings == []
    assert report.ledger.endings()["answered"] > 50
    begun = {entry.began.fault for entry in report.ledger.entries}
    assert begun > {name for name in _QUICK if name not in report.not_tried}


async def test_a_killed_server_comes_up_with_what_it_promised(tmp_path: Path) -> None:
    with house_in(tmp_path) as house:
        kills = await Killing(house, seed=24).run(4)
    assert kills.findings == []
    assert kills.num_at_start + kills.num_serving == 4
    assert kills.num_answered > 0
