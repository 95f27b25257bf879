"""Which of the models behind `auto` a request goes to first, and which may come after it.

Computes and loads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.gateway.router import ServedModel, Tiers
from appliance.gateway.tiers.asked import has_token_ids
from appliance.gateway.tiers.complexity import MOST, Complexity, complexity_of
from appliance.protocol.requests import GenerateRequest


@dataclass(frozen=True, kw_only=True)
class Choice:
    """For the requests of one call, which one model answers."""

    models: tuple[ServedModel, ...]  # in the order in which they are asked, each once
    score: int
    reason: str  # why the first of them, in words

    @classmethod
    def of(cls, tiers: Tiers, requests: Sequence[GenerateRequest]) -> Choice:
        """Several requests need what the hardest of them needs, and get one answer each: no
        second model is asked, which could answer a part of them.
        """
        hardest = max(map(complexity_of, requests), key=lambda each: each.score)
        if any(map(has_token_ids, requests)):
            reason = "token ids mean something to one model only: the smallest is asked"
            return cls(models=tiers.usable[:1], score=hardest.score, reason=reason)
        models, reason = _from_wanted(tiers, hardest)
        if len(requests) > 1:
            models = models[:1]
        return cls(models=models, score=hardest.score, reason=reason)


def _from_wanted(tiers: Tiers, needed: Complexity) -> tuple[tuple[ServedModel, ...], str]:
    num_tiers = len(tiers.models)
    wanted = tiers.rules.tier_of(needed.score, num_tiers)
    reason = f"score {needed.score} of {MOST} ({needed.reason}): tier {wanted + 1} of {num_tiers}"
    models = tuple(model for model in tiers.models[wanted:] if model is not None)
    if not models:
        return tiers.usable[-1:], f"{reason}, and this is the largest that the key may use"
    if tiers.models[wanted] is None:
        reason += ", which the key may not use"
    # what is in memory answers at once, and has cost its memory already
    loaded = next((at for at, model in enumerate(models) if model.is_loaded), 0)
    if loaded:
        reason += f"; {models[0].id} is not loaded, and this is"
    return models[loaded:], reason
