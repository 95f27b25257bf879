"""What a plan chose survives in a memory control group,
and the next better would not have.

One case of those that `python -m bench.memory_groups` runs, with fewer turns, and
libraries that other processes share.
"""

from __future__ import annotations

import pytest

from bench.memory_groups.cases import CASES, next_better, write_models
from bench.memory_groups.groups import NoMemoryGroups, memory_group
from bench.memory_groups.server import Home
from bench.memory_groups.trial import EARLY_TOKENS, plan_inside, try_forced, try_own_plan

CASE = CASES[0]
NUM_TURNS = 1


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    try:
        with memory_group(CASE.limit_bytes):
            pass
    except NoMemoryGroups as error:
        pytest.skip(f"needs to make memory control groups, which cannot be done here: {error}")
    folder = tmp_path_factory.mktemp("groups")
    (folder / "state").mkdir()
    write_models(CASE, folder / "models")
    return Home(folder / "models", folder / "state", folder / "servers.log")


def test_a_plan_survives_its_limit_with_a_full_pool_and_the_next_better_does_not(
    home: Home,
) -> None:
    plan = plan_inside(CASE.model, home, CASE.limit_bytes)
    assert (
        plan["need"]["claimed_bytes"]
        <= plan["budget"]["total_bytes"] - plan["budget"]["headroom_bytes"]
    )

    own = try_own_plan(CASE.model, home, CASE.limit_bytes, NUM_TURNS)
    assert own.verdict.survived, (own, home.log.read_text())
    assert own.served is not None
    assert (own.served.kv_cells, own.served.slots) == (plan["kv_cells"], plan["slots"])
    assert own.num_filled_cells >= own.served.kv_cells - own.served.slots * EARLY_TOKENS

    better = next_better(plan, home.models / CASE.model)
    assert better is not None
    forced = try_forced(CASE.model, home, CASE.limit_bytes, better.flags, NUM_TURNS)
    assert not forced.verdict.survived, (forced, home.log.read_text())
