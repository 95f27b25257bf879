"""Requests whose answers outgrow the cells:
what each is to be answered, and who ends when.
"""

from __future__ import annotations

from collections import defaultdict

from appliance.engine.engine import Engine
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from tests.engine.engines import ENDLESS
from tests.engine.fake_runner import answer_alone


def ask(request_id: int, num_prompt_tokens: int, max_new_tokens: int) -> EngineRequest:
    return EngineRequest(
        request_id=request_id,
        prompt=[request_id + 1] * num_prompt_tokens,
        sampling=ENDLESS,
        max_new_tokens=max_new_tokens,
    )


def alone(request: EngineRequest) -> list[int]:
    assert request.max_new_tokens is not None
    tokens = list(request.prompt)
    for _ in range(request.max_new_tokens):
        tokens += answer_alone(tokens, 1, 10**6)
        tokens[-1] += tokens[-1] == 0  # as the runner does where the end is ignored
    return tokens[len(request.prompt) :]


def run(engine: Engine) -> tuple[dict[int, list[int]], list[int], int]:
    """Every request's tokens, the order in which they ended, and how many were
    preempted at the same time at most.
    """
    tokens: dict[int, list[int]] = defaultdict(list)
    ended: list[int] = []
    most_preempted = 0
    for _ in range(3000):
        if not engine.has_work:
            return tokens, ended, most_preempted
        for output in engine.step():
            assert isinstance(output, Sampled)
            tokens[output.request_id].append(output.token)
            if output.finish_reason:
                ended.append(output.request_id)
        most_preempted = max(most_preempted, engine.num_preempted)
    raise AssertionError("the engine did not come to an end")
