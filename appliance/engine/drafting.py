"""Joins drafters, the depth controller and the cost of steps: what the engine asks for drafts. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq

from appliance.engine.cost import StepCost, StepShape
from appliance.engine.depth import DepthController, Gain, Offer
from appliance.engine.sequence import Sequence
from appliance.engine.speculation import Drafter, DraftRequest, Proposal

MOST_DEPTH = 16


class FreeDrafting:
    """A `Drafting` for one drafter whose proposals cost nothing: it is asked first, and the depth chosen then."""

    def __init__(self, drafter: Drafter, cost: StepCost) -> None:
        self._drafter = drafter
        self._cost = cost
        self._controller = DepthController()
        self._slots: dict[int, int] = {}  # request id -> slot, of the step in progress

    @property
    def gain(self) -> Gain:
        """Of all steps so far."""
        return self._controller.gain

    def draft(
        self,
        sequences: Seq[Sequence],
        most_rows: int,
        alone: StepShape,
        shape: Callable[[int], StepShape],
    ) -> dict[int, tuple[int, ...]]:
        self._slots = {}
        requests = [_request(seq, min(MOST_DEPTH, most_rows)) for seq in sequences]
        proposals = self._drafter.propose(requests)
        offers = [
            Offer(request.slot, len(proposal.tokens), proposal.grade)
            for request, proposal in zip(requests, proposals, strict=True)
            if proposal.tokens
        ]
        if not offers:
            return {}
        alone_ms = self._cost.estimate_ms(alone)
        if alone_ms is None:
            return {}
        known_ms: dict[int, float] = {}

        def step_ms(num_drafted: int) -> float:
            if num_drafted not in known_ms:
                known_ms[num_drafted] = self._cost.estimate_ms(shape(num_drafted)) or 0.0
            return known_ms[num_drafted]

        token_ms = alone_ms / len(sequences)
        depths = self._controller.choose(offers, len(sequences), most_rows, token_ms, step_ms)
        return self._chosen(sequences, requests, proposals, depths)

    def _chosen(
        self,
        sequences: Seq[Sequence],
        requests: Seq[DraftRequest],
        proposals: Seq[Proposal],
        depths: Mapping[int, int],
    ) -> dict[int, tuple[int, ...]]:
        drafted = {}
        for seq, request, proposal in zip(sequences, requests, proposals, strict=True):
            if depth := depths.get(request.slot, 0):
                drafted[seq.request_id] = proposal.tokens[:depth]
                self._slots[seq.request_id] = request.slot
        return drafted

    def observe(self, num_accepted: Mapping[int, int], elapsed_ms: float) -> None:
        self._controller.observe({self._slots[i]: count for i, count in num_accepted.items()}, elapsed_ms)
        self._slots = {}

    def release(self, slot: int, request_id: int) -> None:  # noqa: ARG002 - the Protocol's signature
        self._drafter.release(slot)
        self._controller.release(slot)


def _request(seq: Sequence, most_tokens: int) -> DraftRequest:
    assert seq.slot is not None
    most = min(most_tokens, seq.max_new_tokens - seq.num_new_tokens - 1)
    return DraftRequest(seq.slot, seq.tokens, seq.num_prompt_tokens, seq.sampling, max(most, 0))
