"""Where all attention scores are kept, no step has more rows times cells than memory
was planned for.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.requests import EngineRequest
from tests.engine.engines import ENDLESS
from tests.engine.fake_runner import FakeRunner

PAD = 256  # llama.cpp scans cells in blocks of so many
MAX_ROW_CELLS = 32 * 2048


def run(prompts: list[int], max_row_cells: int | None) -> list[tuple[int, int]]:
    """Rows of each step, and the cells that each of them scanned; all prompts are there
    from the beginning.
    """
    runner = FakeRunner(num_cells=2048, num_slots=4, max_rows=512, cost_ms=lambda _num_rows: 10.0)
    engine = Engine(
        runner, Limits(2048, 100_000, 250, max_row_cells), KeepPolicy(0, 0.0), clock=runner.clock
    )
    for request_id, num_tokens in enumerate(prompts):
        engine.submit(
            EngineRequest(
                request_id=request_id,
                prompt=[1 + request_id % 48] * num_tokens,
                sampling=ENDLESS,
                max_new_tokens=4,
            )
        )
    steps, most_used = [], 0
    while engine.has_work:
        num_known = len(runner.batches)
        if runner.num_used_cells == 0:
            most_used = 0
        engine.step()
        for batch in runner.batches[num_known:]:
            most_used = max(most_used, runner.num_used_cells, len(batch))
            steps.append((len(batch), -(-most_used // PAD) * PAD))
    return steps


@settings(deadline=None, max_examples=60)  # a busy machine is no failure
@given(st.lists(st.integers(1, 1900), min_size=1, max_size=5))
def test_no_step_exceeds_it(prompts: list[int]) -> None:
    for num_rows, num_cells in run(prompts, MAX_ROW_CELLS):
        assert num_rows * num_cells <= MAX_ROW_CELLS or num_rows <= 4  # decoding is never held up


def test_without_a_bound_steps_are_as_large_as_they_may_be() -> None:
    assert max(num_rows for num_rows, _ in run([1900], None)) == 512
    assert max(num_rows for num_rows, _ in run([1900], MAX_ROW_CELLS)) == 128  # of 512 cells
