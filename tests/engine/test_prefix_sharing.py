"""Nothing is computed twice: prefixes of finished, running and arriving requests,
counted to the token.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.cost import AttentionCost, StepCost, StepShape
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.protocol.sampling import SamplingParams
from tests.engine.engines import ENDLESS, make_engine, run_to_end
from tests.engine.fake_runner import FakeRunner, answer_alone

SYSTEM = [1 + at % 40 for at in range(100)]  # a prefix that many share


def ask(
    request_id: int, *tail: int, max_new_tokens: int = 1, prefix: list[int] = SYSTEM
) -> EngineRequest:
    return EngineRequest(
        request_id=request_id,
        prompt=[*prefix, *tail],
        sampling=ENDLESS,
        max_new_tokens=max_new_tokens,
    )


def test_a_second_request_computes_only_what_the_first_did_not() -> None:
    runner = FakeRunner(num_cells=1024)
    engine = make_engine(runner, ctx=256, max_kept=500)
    engine.submit(ask(1, 41, 42, 43))
    [first] = run_to_end(engine)
    engine.submit(ask(2, 41, 44))
    [second] = run_to_end(engine)
    assert isinstance(first, Sampled)
    assert isinstance(second, Sampled)
    assert (first.num_cached_tokens, second.num_cached_tokens) == (0, 101)
    assert runner.num_prefilled_tokens == 103 + 1
    assert engine.num_used_cells == runner.num_used_cells == 104


def test_the_same_prompt_again_computes_its_last_token_only() -> None:
    runner = FakeRunner(num_cells=1024)
    engine = make_engine(runner, ctx=256, max_kept=500)
    for request_id in (1, 2):
        engine.submit(ask(request_id))
        outputs = run_to_end(engine)
    [last] = outputs
    assert isinstance(last, Sampled)
    assert last.num_cached_tokens == 99


def test_the_next_turn_of_a_conversation_takes_over_prompt_and_answer() -> None:
    runner = FakeRunner(num_cells=1024)
    engine = make_engine(runner, ctx=256, max_kept=500)
    engine.submit(ask(1, 41, max_new_tokens=10))
    answer = [o.token for o in run_to_end(engine) if isinstance(o, Sampled)]
    engine.submit(ask(2, 41, *answer, 42, 43))
    [output] = run_to_end(engine)
    assert isinstance(output, Sampled)
    assert output.num_cached_tokens == 110, (
        "all but the answer's last token, which was never computed"
    )
    assert engine.num_used_cells == 113, "the longer path replaces the shorter one"


def test_eight_requests_at_once_compute_their_common_prefix_once() -> None:
    runner = FakeRunner(num_cells=2048, num_slots=8, max_rows=32)
    engine = make_engine(runner, ctx=256, max_kept=0)
    for request_id in range(8):
        engine.submit(ask(request_id, 40 + request_id, 41, max_new_tokens=3))
    outputs = run_to_end(engine)
    cached = {o.request_id: o.num_cached_tokens for o in outputs if isinstance(o, Sampled)}
    assert cached == {0: 0, **dict.fromkeys(range(1, 8), 100)}
    assert runner.num_prefilled_tokens == 100 + 8 * (2 + 2)


def test_a_short_common_prefix_is_not_waited_for() -> None:
    runner = FakeRunner(num_cells=2048, num_slots=2, max_rows=64)
    engine = make_engine(runner, ctx=256)
    for request_id in (1, 2):
        engine.submit(ask(request_id, *([40 + request_id] * 40), prefix=[1, 2, 3, 4, 5]))
    engine.step()
    assert runner.batches[0].num_slots == 2


# Rows in all: 100 of the prefix, two each of three requests, and what the owner
# computed beyond the prefix. Cancelled with 96 of 100 computed, the last four are not
# worth waiting for: everybody computes them.
@pytest.mark.parametrize(
    ("cancelled_after", "num_rows"),
    [(0, 106), (1, 106), (2, 106), (3, 96 + 3 * 6), (4, 107), (5, 108)],
)
def test_when_the_owner_is_cancelled_the_first_waiter_goes_on_from_its_cells(
    cancelled_after: int, num_rows: int
) -> None:
    runner = FakeRunner(num_cells=2048, num_slots=4, max_rows=32)
    engine = make_engine(runner, ctx=256, max_kept=0)
    for request_id in range(4):
        engine.submit(ask(request_id, 40 + request_id, max_new_tokens=2))
    outputs = []
    for _ in range(cancelled_after):
        outputs += engine.step()
    engine.finish(0)
    outputs += run_to_end(engine)
    tokens = {
        i: [o.token for o in outputs if isinstance(o, Sampled) and o.request_id == i]
        for i in (1, 2, 3)
    }
    assert tokens == {i: answer_alone([*SYSTEM, 40 + i], 2, 256) for i in (1, 2, 3)}
    assert runner.num_prefilled_tokens == num_rows
    assert runner.cells == {}


def test_kept_prefixes_stay_within_their_bound_the_least_recently_used_going_first() -> None:
    runner = FakeRunner(num_cells=1024)
    engine = make_engine(runner, ctx=256, max_kept=120)
    for request_id, first in ((1, 11), (2, 22), (1, 11), (3, 33)):
        engine.submit(ask(request_id, prefix=[first] * 50))
        run_to_end(engine)
        runner.now_s += 1
    assert engine.num_used_cells == 100
    cached = []
    for first in (11, 22):
        engine.submit(ask(9, prefix=[first] * 50))
        cached += [o.num_cached_tokens for o in run_to_end(engine) if isinstance(o, Sampled)]
    assert cached == [49, 0]


def test_kept_prefixes_make_room_for_a_request_that_needs_their_cells() -> None:
    runner = FakeRunner(num_cells=256)
    engine = make_engine(runner, ctx=256, max_kept=200)
    engine.submit(ask(1, prefix=[7] * 150))
    run_to_end(engine)
    engine.submit(ask(2, prefix=[8] * 200, max_new_tokens=20))
    run_to_end(engine)
    assert engine.num_used_cells == runner.num_used_cells == 0, (
        "219 cells are more than may be kept"
    )


def ask_in_turn(runner: FakeRunner, max_host_bytes: int, prefixes: list[list[int]]) -> list[int]:
    """Each request's cached tokens, where only 60 cells may stay in the cache."""
    engine = make_engine(runner, ctx=256, max_kept=60, max_host_bytes=max_host_bytes)
    cached = []
    for request_id, prefix in enumerate(prefixes):
        engine.submit(ask(request_id, prefix=prefix))
        cached += [o.num_cached_tokens for o in run_to_end(engine) if isinstance(o, Sampled)]
        runner.now_s += 1
    return cached


def test_what_has_to_leave_the_cache_comes_back_from_host_memory() -> None:
    runner = FakeRunner(num_cells=1024)
    assert ask_in_turn(runner, 1000, [[11] * 50, [22] * 50, [11] * 50]) == [0, 0, 49]
    assert runner.num_restored_tokens == 49
    assert runner.num_prefilled_tokens == 50 + 50 + 1


def test_prefixes_that_begin_alike_come_back_whichever_left_first() -> None:
    """Chats share a few tokens at their beginning: with the last of them in the cache,
    these are gone too, and too few to be worth restoring by themselves.
    """
    runner = FakeRunner(num_cells=512)
    alike = [[1, 2, 3, *([word] * 27)] for word in (10, 11, 12)]
    assert ask_in_turn(runner, 10_000, [*alike, [20] * 30, [21] * 30, *alike])[-3:] == [29] * 3


def test_host_memory_has_a_bound_too() -> None:
    # A saved prefix of 50 cells takes 51 bytes here, so only the last one that left is
    # there.
    prefixes = [[11] * 50, [22] * 50, [33] * 50, [22] * 50, [11] * 50]
    assert ask_in_turn(FakeRunner(num_cells=1024), 60, prefixes) == [0, 0, 0, 49, 0]


def test_what_host_memory_has_no_room_for_is_not_copied_at_all() -> None:
    """A copy takes memory even when it is thrown away: the plan has none for it."""
    runner = FakeRunner(num_cells=1024)
    assert ask_in_turn(runner, 60, [[11] * 50, [22] * 70, [33] * 50]) == [0, 0, 0]
    assert runner.num_saved_tokens == 50


def test_what_is_worth_a_file_is_handed_out_once_also_where_host_memory_forgets_it() -> None:
    runner = FakeRunner(num_cells=1024)
    # a prefix of 300 cells takes 301
    engine = make_engine(runner, ctx=512, max_kept=1000, max_host_bytes=320)
    for request_id, first in enumerate((11, 22, 11, 22)):
        engine.submit(ask(request_id, prefix=[first] * 300))
        run_to_end(engine)
    handed_out: list[int] = []
    while (saved := engine.next_for_disk()) is not None and len(handed_out) < 5:
        saved.on_disk = True
        handed_out.append(saved.tokens[0])
    assert handed_out == [11, 22]


def test_a_saved_tail_continues_what_is_still_in_the_cache() -> None:
    runner = FakeRunner(num_cells=1024)
    common = [7] * 30
    prefixes = [[*common, *[11] * 25], [*common, *[22] * 25], [*common, *[22] * 25]]
    # The second shares 30 cells of the first, which is worth more for it; so the
    # second's other 25 have to leave. They are saved alone, and restored behind the
    # shared ones.
    assert ask_in_turn(runner, 1000, prefixes) == [0, 30, 54]
    assert runner.num_restored_tokens == 24


def test_a_kept_prefix_has_a_lifetime() -> None:
    runner = FakeRunner(num_cells=1024)
    engine = make_engine(runner, ctx=256, max_kept=500)
    engine.submit(ask(1))
    run_to_end(engine)
    runner.now_s += 61
    engine.submit(ask(2))
    [output] = run_to_end(engine)
    assert isinstance(output, Sampled)
    assert output.num_cached_tokens == 0


def test_a_model_that_cannot_share_computes_everything_and_stays_correct() -> None:
    runner = FakeRunner(num_cells=1024, num_slots=4, num_sequence_ids=4)
    engine = make_engine(runner, ctx=256, max_kept=500)
    for request_id in range(4):
        engine.submit(ask(request_id, 41))
    outputs = run_to_end(engine)
    assert [o.num_cached_tokens for o in outputs if isinstance(o, Sampled)] == [0] * 4
    assert runner.num_prefilled_tokens == 4 * 101
    assert runner.cells == {}


requests = st.tuples(
    # two tokens only: prefixes are often shared
    st.lists(st.sampled_from([1, 2]), min_size=1, max_size=30),
    st.integers(1, 12),
    st.integers(0, 3),  # arrives after so many steps
    st.one_of(st.none(), st.integers(0, 20)),  # cancelled after so many
)


@given(
    st.lists(requests, min_size=1, max_size=12),
    st.integers(1, 4),
    st.integers(40, 120),
    st.integers(8, 32),
    st.integers(0, 80),
    st.sampled_from([0, 40, 1000]),
)
@settings(max_examples=300, deadline=None)
def test_every_request_ends_once_and_as_if_it_were_alone(
    plan: list[tuple[list[int], int, int, int | None]],
    num_slots: int,
    num_cells: int,
    max_rows: int,
    max_kept: int,
    max_host_bytes: int,
) -> None:
    """Random prompts, arrivals, cancellations and pools: outputs never depend on the
    company, and no cell is lost.
    """
    ctx = 40
    runner = FakeRunner(
        num_cells=num_cells, num_slots=num_slots, max_rows=max_rows, num_sequence_ids=num_slots + 3
    )
    engine = make_engine(runner, ctx=ctx, max_kept=max_kept, max_host_bytes=max_host_bytes)
    tokens: dict[int, list[int]] = defaultdict(list)
    ends: dict[int, int] = defaultdict(int)
    pending = list(enumerate(plan))
    for step in range(2000):
        while pending and pending[0][1][2] <= step:
            request_id, (prompt, num_new, _, _) = pending.pop(0)
            engine.submit(
                EngineRequest(
                    request_id=request_id,
                    prompt=prompt,
                    sampling=SamplingParams(),
                    max_new_tokens=num_new,
                )
            )
        for request_id, (_, _, _, cancelled_at) in enumerate(plan):
            if cancelled_at == step:
                engine.finish(request_id)
        for output in engine.step():
            assert isinstance(output, Sampled)
            assert not ends[output.request_id]
            tokens[output.request_id].append(output.token)
            ends[output.request_id] += output.finish_reason is not None
        assert engine.num_used_cells == runner.num_used_cells
        if not pending and not engine.has_work:
            break
    assert not engine.has_work
    assert runner.num_used_cells <= max_kept
    for request_id, (prompt, num_new, _, cancelled_at) in enumerate(plan):
        alone = answer_alone(prompt, num_new, ctx)
        if cancelled_at is None:
            assert (ends[request_id], tokens[request_id]) == (1, alone)
        else:
            assert tokens[request_id] == alone[: len(tokens[request_id])]


def test_kept_prefixes_stay_until_somebody_runs_whom_they_would_slow() -> None:
    cost = StepCost(AttentionCost(1.0))
    for depth in range(0, 2001, 100):
        cost.observe(StepShape(1, depth), 20.0 + 0.01 * depth)  # 60 cells cost 3 %
    runner = FakeRunner(num_cells=2048, cost_ms=lambda rows: 20.0 * rows)
    policy = KeepPolicy(max_cells=1000, ttl_s=60.0, max_host_bytes=10_000, max_slowdown=0.03)
    engine = Engine(runner, Limits(1024, 10_000, 100), policy, clock=runner.clock, cost=cost)
    chat = [7] * 200
    engine.submit(ask(1, prefix=chat))
    run_to_end(engine)
    assert engine.num_used_cells == 200, "nobody runs, and the next request may well go on from it"
    engine.submit(ask(2, prefix=[*chat, 8, 9]))
    run_to_end(engine)
    assert (engine.num_used_cells, runner.num_restored_tokens) == (202, 0)
    engine.submit(ask(3, prefix=[9] * 50, max_new_tokens=5))
    engine.step()
    assert engine.num_used_cells == 50, (
        "what another one would have to look past went to host memory"
    )
    engine.submit(ask(4, prefix=[*chat, 8, 9]))
    run_to_end(engine)
    assert runner.num_restored_tokens == 201


def test_a_short_prefix_that_may_lie_above_many_free_cells_goes_too() -> None:
    """Few cells would be left,
    but a row looks past every cell below the highest one in use.
    """
    cost = StepCost(AttentionCost(1.0))
    for depth in range(0, 2001, 100):
        cost.observe(StepShape(1, depth), 20.0 + 0.001 * depth)  # 600 cells cost 3 %
    runner = FakeRunner(num_cells=2048, cost_ms=lambda rows: 20.0 * rows)
    policy = KeepPolicy(max_cells=2000, ttl_s=60.0, max_host_bytes=100_000, max_slowdown=0.03)
    engine = Engine(runner, Limits(1024, 10_000, 100), policy, clock=runner.clock, cost=cost)
    engine.submit(ask(1, prefix=[1] * 800))
    engine.submit(ask(2, prefix=[2] * 100))
    run_to_end(engine)
    assert engine.num_used_cells == 900
    engine.submit(ask(3, prefix=[3] * 50, max_new_tokens=5))
    engine.step()
    assert engine.num_used_cells == 25, (
        "half of its prompt, not 125: the hundred may be the uppermost of 900"
    )
    run_to_end(engine)
    engine.submit(ask(4, prefix=[4] * 32, max_new_tokens=5))
    engine.step()
    assert engine.num_used_cells == 54 + 17, (
        "the cells of the third lie low, and fewer than 600 are scanned"
    )


def test_a_prefix_was_used_again_even_if_it_left_for_its_user() -> None:
    """What is kept of the second request is the same prefix: it is worth a file."""
    cost = StepCost(AttentionCost(1.0))
    cost.observe(StepShape(1, 0), 20.0)
    cost.observe(StepShape(1, 1000), 40.0)  # no idle cell is affordable
    runner = FakeRunner(num_cells=2048, cost_ms=lambda rows: 20.0 * rows)
    policy = KeepPolicy(max_cells=2000, ttl_s=60.0, max_host_bytes=100_000, max_slowdown=0.001)
    engine = Engine(runner, Limits(1024, 10_000, 100), policy, clock=runner.clock, cost=cost)
    prompt = [1 + at % 40 for at in range(600)]
    for request_id, num_new in enumerate((8, 8)):
        assert engine.next_for_disk() is None
        engine.submit(ask(request_id, prefix=prompt, max_new_tokens=num_new))
        run_to_end(engine)
    saved = engine.next_for_disk()
    assert saved is not None
    assert saved.tokens[:600] == prompt


def test_a_few_tokens_in_common_are_no_use_of_a_long_prefix() -> None:
    runner = FakeRunner(num_cells=2048)
    engine = make_engine(runner, ctx=1024, max_kept=2000, max_host_bytes=10_000)
    long = [1 + at % 40 for at in range(300)]
    for request_id, prompt in enumerate(([*long], [*long[:20], *[45] * 20])):
        engine.submit(ask(request_id, prefix=prompt))
        [output] = run_to_end(engine)
        assert isinstance(output, Sampled)
        assert output.num_cached_tokens == (0, 20)[request_id]
    assert engine.next_for_disk() is None
    engine.submit(ask(2, prefix=[*long, 44]))
    run_to_end(engine)
    assert engine.next_for_disk() is not None
