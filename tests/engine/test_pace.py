"""An engine that may use a part of the machine's power: smaller steps, the same answers,
and the same account of what was done.
"""

from __future__ import annotations

from tests.engine.engines import answers, make_engine, request, run_to_end
from tests.engine.fake_runner import FakeRunner


def cost_ms(num_rows: int) -> float:
    return 10.0 * num_rows


def run(share: float) -> tuple[dict[int, list[int]], FakeRunner, float, float]:
    """(tokens by request, the runner, what was done in ms, the duty)."""
    runner = FakeRunner(cost_ms=cost_ms)
    engine = make_engine(runner, max_stall_ms=200)
    engine.learn_curve(60.0)
    duty = engine.pace(share)
    runner.batches.clear()
    engine.submit(request(1, 4, 30))
    outputs = engine.step()
    engine.submit(request(2, 40, 4))
    outputs += run_to_end(engine)
    return answers(outputs), runner, engine.work.done_ms, duty


def test_threads_come_first_and_the_duty_is_what_is_left() -> None:
    assert [run(share)[3] for share in (1.0, 0.6, 0.25)] == [1.0, 1.0, 0.5]
    assert run(0.25)[1].shares == [0.25]


def test_steps_are_as_much_shorter_as_there_is_rest_after_them() -> None:
    """Nobody's stream waits longer than the stall budget for step and rest together."""
    full, half = (run(share) for share in (1.0, 0.25))

    assert full[0] == half[0]
    assert max(len(batch) for batch in full[1].batches[1:]) == 11
    assert max(len(batch) for batch in half[1].batches[1:]) == 7


def test_what_was_done_is_the_same_however_long_it_took() -> None:
    tokens, runner, done_ms, _ = run(1.0)
    assert sum(len(of_one) for of_one in tokens.values()) == 34
    assert round(done_ms) == sum(10 * len(batch) for batch in runner.batches)
