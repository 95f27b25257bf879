"""Engines over the fake runner: made, asked, and run to their end."""

from __future__ import annotations

from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.drafting.drafter import Drafting
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.outputs import Output, Sampled
from appliance.engine.requests import EngineRequest
from appliance.protocol.events import FinishReason
from appliance.protocol.sampling import SamplingParams
from tests.engine.fake_runner import FakeRunner

MANY_BYTES = 10_000
ENDLESS = SamplingParams(ignore_eos=True)


def make_engine(
    runner: FakeRunner,
    ctx: int = 64,
    max_waiting: int = 10_000,
    max_stall_ms: int = 100,
    max_kept: int = 0,
    max_host_bytes: int = 0,
    drafting: Drafting | None = None,
) -> Engine:
    policy = KeepPolicy(max_cells=max_kept, ttl_s=60.0, max_host_bytes=max_host_bytes)
    return Engine(
        runner,
        Limits(ctx, max_waiting, max_stall_ms),
        policy,
        clock=runner.clock,
        drafting=drafting,
    )


def request(
    request_id: int, num_prompt_tokens: int = 4, max_new_tokens: int | None = 4
) -> EngineRequest:
    prompt = [1 + (request_id * 7 + at) % 40 for at in range(num_prompt_tokens)]
    return EngineRequest(
        request_id=request_id, prompt=prompt, sampling=ENDLESS, max_new_tokens=max_new_tokens
    )


def run_to_end(engine: Engine, most_steps: int = 1000) -> list[Output]:
    outputs: list[Output] = []
    for _ in range(most_steps):
        if not engine.has_work:
            return outputs
        outputs += engine.step()
    raise AssertionError("the engine did not come to an end")


def finished(outputs: list[Output]) -> dict[int, FinishReason]:
    return {
        o.request_id: o.finish_reason for o in outputs if isinstance(o, Sampled) and o.finish_reason
    }


def answers(outputs: list[Output]) -> dict[int, list[int]]:
    """The tokens of each request. Whatever is no token fails the test."""
    found: dict[int, list[int]] = {}
    for output in outputs:
        assert isinstance(output, Sampled)
        found.setdefault(output.request_id, []).append(output.token)
    return found
