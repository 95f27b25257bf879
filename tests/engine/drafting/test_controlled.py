"""Drafting as the engine gets it: by lookup, by a draft model, by both in turn, and not
at all where it costs more.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.cost import AttentionCost, StepCost
from appliance.engine.drafting.controlled import ControlledDrafting
from appliance.engine.drafting.drafter import DraftCost, DraftRequest, Proposal
from appliance.engine.drafting.prompt_lookup import PromptLookup
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.outputs import Output, Sampled
from appliance.engine.requests import EngineRequest
from tests.engine.engines import ENDLESS, run_to_end
from tests.engine.fake_runner import END_TOKEN, FakeRunner, next_token

NUM_TOKENS = 60


class FakeDraftModel:
    """Knows what the target will say, or never does; `token_ms` passes on the runner's
    clock for each of its steps.
    """

    name = "fake"

    def __init__(self, runner: FakeRunner, token_ms: float, *, is_right: bool = True) -> None:
        self._runner = runner
        self._token_ms = token_ms
        self._is_right = is_right
        self.num_asked = 0
        self.asked_slots: set[int] = set()

    def cost(self, requests: Sequence[DraftRequest]) -> DraftCost:
        return DraftCost(self._token_ms, self._token_ms)

    def propose(self, requests: Sequence[DraftRequest]) -> list[Proposal]:
        self.num_asked += 1
        self.asked_slots |= {request.slot for request in requests}
        self._runner.now_s += (
            max(request.most_tokens for request in requests) * self._token_ms / 1000
        )
        return [Proposal(self._tokens(request)) for request in requests]

    def _tokens(self, request: DraftRequest) -> tuple[int, ...]:
        tokens = list(request.tokens)
        for _ in range(request.most_tokens):
            token = next_token(tokens)
            tokens.append((token + (token == END_TOKEN) + (not self._is_right)) % 50)
        return tuple(tokens[len(request.tokens) :])

    def release(self, slot: int) -> None:
        pass


def make(runner: FakeRunner, lookup: PromptLookup | None, model: FakeDraftModel | None) -> Engine:
    cost = StepCost(AttentionCost(0.0))
    drafting = ControlledDrafting(lookup, model, cost, runner.clock)
    policy = KeepPolicy(max_cells=0, ttl_s=60.0, max_host_bytes=0)
    limits = Limits(512, 10_000, 1000)
    engine = Engine(runner, limits, policy, clock=runner.clock, cost=cost, drafting=drafting)
    engine.learn_curve(10.0)
    runner.batches.clear()
    return engine


def memory_bound(**settings: int) -> FakeRunner:
    return FakeRunner(
        num_cells=1024, cost_ms=lambda rows: 20 + 0.2 * rows, max_draft_rows=16, **settings
    )


def answer(engine: Engine, *prompts: list[int]) -> list[Output]:
    for request_id, prompt in enumerate(prompts):
        engine.submit(
            EngineRequest(
                request_id=request_id, prompt=prompt, sampling=ENDLESS, max_new_tokens=NUM_TOKENS
            )
        )
    return run_to_end(engine)


def test_a_draft_model_that_is_right_saves_most_steps() -> None:
    runner = memory_bound()
    engine = make(runner, None, FakeDraftModel(runner, token_ms=1.0))
    started_s = runner.now_s
    outputs = answer(engine, [5, 6, 7])
    assert len(runner.batches) < NUM_TOKENS / 4
    last = outputs[-1]
    assert isinstance(last, Sampled)
    assert last.drafts is not None
    assert last.drafts.num_accepted == last.drafts.num_drafted == NUM_TOKENS - len(runner.batches)
    saved_ms = NUM_TOKENS * 20.2 - (runner.now_s - started_s) * 1000
    assert last.drafts.real_ms == pytest.approx(saved_ms, abs=1.0), (
        "but for the two more rows of the prompt"
    )


@pytest.mark.parametrize("token_ms", [1.0, 30.0])
def test_a_draft_model_that_is_wrong_costs_two_percent_at_most(token_ms: float) -> None:
    for num_streams in (1, 4):
        times_s = []
        for is_drafting in (False, True):
            runner = memory_bound(num_slots=4)
            model = FakeDraftModel(runner, token_ms, is_right=False) if is_drafting else None
            engine = make(runner, None, model)
            started_s = runner.now_s
            answer(engine, *([slot, 6, 7] for slot in range(1, num_streams + 1)))
            times_s.append(runner.now_s - started_s)
        assert times_s[1] <= times_s[0] / 0.98 + 0.001


def test_a_long_match_goes_before_the_model() -> None:
    runner = memory_bound(num_slots=2)
    tokens = [9, 8, 7]
    for _ in range(40):
        token = next_token(tokens)
        tokens.append(token + (token == END_TOKEN))
    lookup, model = PromptLookup(), FakeDraftModel(runner, token_ms=1.0)
    lookup.remember(tokens)
    engine = make(runner, lookup, model)
    engine.submit(
        EngineRequest(request_id=1, prompt=tokens[:20], sampling=ENDLESS, max_new_tokens=20)
    )
    engine.submit(
        EngineRequest(request_id=2, prompt=[3, 3, 3], sampling=ENDLESS, max_new_tokens=20)
    )
    run_to_end(engine)
    assert model.asked_slots == {1}, "the other one's text was there before"
    assert engine.drafts.num_accepted == engine.drafts.num_drafted > 20


def test_what_an_earlier_request_said_is_found_again() -> None:
    runner = memory_bound()
    engine = make(runner, PromptLookup(), None)
    answer(engine, [5, 6, 7])
    num_steps = len(runner.batches)
    answer(engine, [5, 6, 7])
    assert len(runner.batches) - num_steps < num_steps / 3


def test_nothing_is_drafted_where_every_row_costs_as_much_as_a_step() -> None:
    runner = FakeRunner(num_cells=1024, cost_ms=lambda rows: 20.0 * rows, max_draft_rows=16)
    engine = make(runner, PromptLookup(), FakeDraftModel(runner, token_ms=1.0))
    answer(engine, [1, 2, 3, 4, 5, 6, 1, 2, 3])
    assert engine.drafts.num_drafted == 0
