"""What holds after every step, whatever comes: order, samplers, cells, ends, and tokens
as if each were alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.engine import Engine
from appliance.engine.outputs import Broken
from appliance.engine.requests import EngineRequest
from appliance.engine.scoring import Prefilled, ScoredToken
from appliance.engine.sequence import SequenceStatus
from tests.engine.engines import ENDLESS, make_engine
from tests.engine.expected_scores import expected_scores
from tests.engine.fake_drafting import FakeDrafting
from tests.engine.fake_runner import FakeRunner, next_token

requests = st.tuples(
    st.integers(1, 3),  # family: prompts of one begin alike
    st.integers(1, 38),  # tokens of the prompt
    st.booleans(),  # whether its last token is its own
    st.sampled_from(["cached", "cached", "uncached", "scored", "moved", "moved"]),
    st.integers(1, 60),  # tokens of the answer
    st.booleans(),  # whether its context is shifted
    st.integers(0, 40),  # arrives after so many steps
    st.one_of(st.none(), st.none(), st.integers(0, 60)),  # cancelled after so many
)
pools = st.tuples(
    st.integers(1, 6),  # slots
    st.integers(40, 120),  # cells
    st.integers(6, 32),  # rows of a step at most
    st.integers(0, 60),  # kept cells
    st.sampled_from([0, 30, 200, 10_000]),  # bytes of host memory
    st.integers(0, 12),  # drafted tokens of a step at most
    st.sampled_from([0.0, 0.7, 1.0]),  # the chance of each to be right
)


def alone(prompt: Sequence[int], num_new: int, longest: int, *, shifts: bool) -> list[int]:
    tokens, answer = list(prompt), list[int]()
    while len(answer) < num_new and (shifts or len(prompt) + len(answer) < longest):
        token = next_token(tokens)
        answer.append(token + (token == 0))
        tokens.append(answer[-1])
        if len(tokens) >= longest:
            num_kept = min(len(prompt), longest // 2)
            del tokens[num_kept : num_kept + (len(tokens) - num_kept + 1) // 2]
    return answer


def check(engine: Engine, runner: FakeRunner) -> None:
    running = list(engine._scheduler.running.values())
    assert set(runner._sampling) == {seq.slot for seq in running}, (
        "who has a slot has a sampler, and nobody else"
    )
    assert engine.num_used_cells == runner.num_used_cells <= runner.capabilities.num_cells
    statuses = [seq.status for seq in running]
    if SequenceStatus.PREEMPTED in statuses:
        first = statuses.index(SequenceStatus.PREEMPTED)
        computed = {row.slot for row in runner.batches[-1].rows}
        assert not computed & {seq.slot for seq in running[first:]}, (
            "nobody younger than a preempted one has rows"
        )
    for seq in running:
        assert (seq.status is SequenceStatus.SHARING) == (seq.shares_with is not None)
        assert seq.shares_with is None or seq.shares_with.owner in running[: running.index(seq)]
        assert seq.min_moved_tokens or is_exact(runner, seq.admitted_slot, seq.num_computed_tokens)
    for kept_id, kept in engine.cells._kept.last_used():
        num_plain = sum(token >= 0 for token in kept.tokens)
        assert is_exact(runner, kept_id, num_plain), "who looks for a prefix finds an exact one"


def is_exact(runner: FakeRunner, sequence_id: int, num_tokens: int) -> bool:
    return runner.num_exact(sequence_id) >= num_tokens


@given(st.lists(requests, min_size=1, max_size=14), pools, st.sets(st.integers(0, 80), max_size=2))
@settings(max_examples=100, deadline=None)
def test_after_every_step(
    plan: list[tuple[int, int, bool, str, int, bool, int, int | None]],
    pool: tuple[int, int, int, int, int, int, float],
    failing_steps: set[int],
) -> None:
    num_slots, num_cells, max_rows, max_kept, max_host_bytes, max_draft_rows, chance = pool
    ctx = 40
    runner = FakeRunner(
        num_cells,
        num_slots,
        max(max_rows, num_slots),
        num_sequence_ids=num_slots + 3,
        max_draft_rows=max_draft_rows,
    )
    engine = make_engine(
        runner,
        ctx=ctx,
        max_kept=max_kept,
        max_host_bytes=max_host_bytes,
        drafting=FakeDrafting(chance, 6),
    )
    pending = sorted(enumerate(plan), key=lambda pair: pair[1][6])
    prompts = {
        i: [family] * (n - own) + [10 + i] * own if kind != "moved" else [10 + i] * own + [9] * n
        for i, (family, n, own, kind, *_) in enumerate(plan)
    }
    tokens: dict[int, list[int]] = defaultdict(list)
    scored: dict[int, list[ScoredToken]] = defaultdict(list)
    num_ends: dict[int, int] = defaultdict(int)
    cancellable = list(enumerate(plan))
    num_rows, was_disturbed = 0, bool(failing_steps)
    for step in range(4000):
        while pending and pending[0][1][6] <= step:
            request_id, (*_, kind, num_new, shifts, _, _) = pending.pop(0)
            made = EngineRequest(
                request_id=request_id,
                prompt=prompts[request_id],
                sampling=ENDLESS,
                max_new_tokens=num_new,
                shifts_context=shifts,
            )
            engine.submit(
                replace(
                    made,
                    uses_cache=kind != "uncached",
                    scores_prompt=kind == "scored",
                    min_moved_tokens=3 if kind == "moved" else 0,
                )
            )
        for request_id in [i for i, (*_, cancelled_at) in cancellable if cancelled_at == step]:
            engine.finish(request_id)
            was_disturbed = True
        runner.fail_next = step in failing_steps
        oldest = next(iter(engine._scheduler.running.values()), None)
        had_work, num_steps = engine.has_work, engine.num_steps
        for output in engine.step():
            request_id = output.request_id
            assert not num_ends[request_id], "nothing comes behind the end"
            if isinstance(output, Broken):
                num_ends[request_id] += 1
                continue
            if isinstance(output, Prefilled):
                scored[request_id] += output.scored
                continue
            tokens[request_id].append(output.token)
            was_disturbed |= output.num_discarded_tokens > 0
            if output.finish_reason:
                num_ends[request_id] += 1
                num_rows += (
                    len(prompts[request_id]) - output.num_cached_tokens + output.num_new_tokens - 1
                )
        assert engine.num_steps == num_steps + had_work, (
            "there is always something to compute for somebody"
        )
        assert oldest is None or oldest.status is not SequenceStatus.PREEMPTED, (
            "the oldest always moves on"
        )
        was_disturbed |= engine.num_preempted > 0
        check(engine, runner)
        if not pending and not engine.has_work:
            break
    assert not engine.has_work
    assert runner.num_used_cells <= max_kept
    for request_id, (*_, kind, num_new, shifts, _, cancelled_at) in enumerate(plan):
        answer = alone(prompts[request_id], num_new, ctx, shifts=shifts)
        assert tokens[request_id] == answer[: len(tokens[request_id])]
        assert scored[request_id] == expected_scores(prompts[request_id])[: len(scored[request_id])]
        if cancelled_at is None:
            assert failing_steps or len(scored[request_id]) == len(prompts[request_id]) * (
                kind == "scored"
            )
            assert num_ends[request_id] == 1
            assert failing_steps or tokens[request_id] == answer
    if not was_disturbed:
        num_used_rows = runner.num_prefilled_tokens - runner.num_taken_back
        assert num_used_rows == num_rows, "cached_tokens is what was not computed"
