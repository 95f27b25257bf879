"""Nobody waits for anybody: long prompts, short ones and running streams together, on
the fake runner's clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping

from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from tests.engine.engines import ENDLESS, make_engine
from tests.engine.fake_runner import FakeRunner

MAX_STALL_MS = 250
# Milliseconds by rows of a step, measured: a 0.35B model, Q4_K_M, f16 KV, empty cache.
MEASURED = {
    1: 22.0,
    2: 36.0,
    4: 63.0,
    8: 104.0,
    16: 112.0,
    24: 134.0,
    32: 142.0,
    48: 210.0,
    64: 215.0,
    128: 448.0,
}
# The same model with kernels of our own.
MEASURED_OWN = {1: 7.5, 2: 8.7, 4: 11.0, 8: 15.6, 16: 25.0, 64: 56.0, 256: 207.0}


def measured_ms(num_rows: int, measured: Mapping[int, float] = MEASURED) -> float:
    """On the line through the neighbours, beyond the last one in proportion."""
    counts = sorted(measured)
    at = bisect_left(counts, num_rows)
    if at == len(counts):
        return measured[counts[-1]] * num_rows / counts[-1]
    if counts[at] == num_rows:
        return measured[num_rows]
    one, other = counts[at - 1], counts[at]
    return measured[one] + (measured[other] - measured[one]) * (num_rows - one) / (other - one)


class Arrivals:
    """Submits requests at their times, and notes when each first answered and the
    longest step beside a stream.
    """

    def __init__(
        self, cost_ms: Callable[[int], float] = measured_ms, max_stall_ms: int = MAX_STALL_MS
    ) -> None:
        self.runner = FakeRunner(num_cells=1 << 14, num_slots=8, max_rows=512, cost_ms=cost_ms)
        self.engine = make_engine(self.runner, ctx=4096, max_stall_ms=max_stall_ms)
        self.engine.learn_curve(limit_s=2.0)
        self.submitted_s: dict[int, float] = {}
        self.started_s: dict[int, float] = {}
        self.longest_step_ms = 0.0

    def run(self, plan: list[tuple[float, EngineRequest]], until: set[int]) -> None:
        """Until the requests `until` have all answered."""
        plan = sorted(plan, key=lambda arrival: arrival[0])
        while not until <= self.started_s.keys():
            while plan and plan[0][0] <= self.runner.now_s:
                at_s, request = plan.pop(0)
                self.submitted_s[request.request_id] = at_s
                self.engine.submit(request)
            before_s = self.runner.now_s
            outputs = self.engine.step()
            if len(self.started_s):
                self.longest_step_ms = max(
                    self.longest_step_ms, (self.runner.now_s - before_s) * 1000
                )
            for output in outputs:
                assert isinstance(output, Sampled)
                self.started_s.setdefault(output.request_id, self.runner.now_s)

    def waited_ms(self, request_id: int) -> float:
        return (self.started_s[request_id] - self.submitted_s[request_id]) * 1000


def prompt(request_id: int, num_tokens: int, max_new_tokens: int) -> EngineRequest:
    return EngineRequest(
        request_id=request_id,
        prompt=[1 + request_id % 48] * num_tokens,
        sampling=ENDLESS,
        max_new_tokens=max_new_tokens,
    )


STREAM = (
    0.0,
    EngineRequest(request_id=1000, prompt=[49, 48, 47], sampling=ENDLESS, max_new_tokens=3000),
)


def time_alone_ms(num_tokens: int) -> float:
    """One long prompt beside one running stream."""
    arrivals = Arrivals()
    arrivals.run([STREAM, (3.0, prompt(1, num_tokens, 4))], until={1})
    assert arrivals.longest_step_ms <= MAX_STALL_MS
    return arrivals.waited_ms(1)


def test_a_long_prompt_beside_a_stream_uses_the_efficient_plateau() -> None:
    # 64 rows in 215 ms are the best rate within 250 ms: 2,000 rows in 32 steps, and the
    # step it arrives in.
    assert time_alone_ms(2000) <= 33 * 217


def test_three_long_prompts_and_a_stream_of_short_ones() -> None:
    arrivals = Arrivals()
    longs = [(3.0, prompt(request_id, 2000, 4)) for request_id in (1, 2, 3)]
    shorts = [(3.1 + 0.7 * at, prompt(100 + at, 20, 3)) for at in range(25)]
    arrivals.run([STREAM, *longs, *shorts], until={1, 2, 3})
    assert arrivals.longest_step_ms <= MAX_STALL_MS
    started = [at for at in range(25) if 100 + at in arrivals.started_s]
    assert len(started) >= 20
    for at in started:
        assert arrivals.waited_ms(100 + at) <= 3 * MAX_STALL_MS
    fair_ms = 3 * time_alone_ms(2000)
    for request_id in (1, 2, 3):
        assert arrivals.waited_ms(request_id) <= 1.5 * fair_ms


def test_a_burst_of_short_prompts_is_computed_about_as_fast_as_one_batch() -> None:
    def own_ms(num_rows: int) -> float:
        return measured_ms(num_rows, MEASURED_OWN)

    arrivals = Arrivals(own_ms, max_stall_ms=120)
    begins_s = arrivals.runner.now_s
    burst = [(begins_s + 0.001 * (at > 0), prompt(100 + at, 32, 64)) for at in range(8)]
    arrivals.run(burst, until={100 + at for at in range(8)})
    # the first one's prompt is a step of its own, and then it has somebody to wait for
    assert arrivals.longest_step_ms <= 120
    assert max(arrivals.waited_ms(100 + at) for at in range(8)) <= 1.2 * own_ms(8 * 32)


def test_where_rows_are_fewer_than_prompts_the_oldest_moves_on() -> None:
    """On a machine so slow that a step has one row of a prompt, short ones that keep
    coming starve no long one.
    """
    runner = FakeRunner(
        num_cells=1 << 12, num_slots=8, max_rows=512, cost_ms=lambda num_rows: 400.0 * num_rows
    )
    engine = make_engine(runner, ctx=1024, max_stall_ms=MAX_STALL_MS)
    engine.learn_curve(limit_s=4.0)
    engine.submit(prompt(1, 100, 1))
    answered: set[int] = set()
    for step in range(130):
        engine.submit(prompt(100 + step, 8, 1))
        answered |= {output.request_id for output in engine.step()}
    assert 1 in answered
