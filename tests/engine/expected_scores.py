"""What a scored prompt of the fake model is to be reported."""

from __future__ import annotations

from appliance.engine.runner import Logprobs
from appliance.engine.scoring import ScoredToken
from tests.engine.fake_runner import score_of


def expected_scores(prompt: list[int]) -> list[ScoredToken]:
    later = [
        ScoredToken(token, Logprobs(score_of(prompt[: at + 1]), ()))
        for at, token in enumerate(prompt)
    ][1:]
    return [ScoredToken(prompt[0], None), *later]
