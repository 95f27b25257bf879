"""Joins drafters, the depth controller and the cost of steps:
what the engine asks for drafts.

Knows no model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace

from appliance.engine.adapters.sets import plain_tokens
from appliance.engine.cost import StepCost
from appliance.engine.drafting.depth import DepthController
from appliance.engine.drafting.drafter import Drafter, DraftRequest, DraftRoom, DraftUse, Proposal
from appliance.engine.drafting.offers import DraftAlternative, DraftOffer, StepContext
from appliance.engine.drafting.prompt_lookup import PromptLookup
from appliance.engine.sequence import Sequence

MOST_DEPTH = 16
_LONG_MATCH = 2  # from this grade on a lookup's match is preferred to a draft model's proposal
_MODEL_GRADE = 4  # of a draft model's offers: a number that no match of a lookup has


@dataclass
class _Step:
    """The drafts of the step in progress, by slot."""

    request_ids: dict[int, int] = field(default_factory=dict)
    depths: dict[int, int] = field(default_factory=dict)  # tokens drafted
    grades: dict[int, int] = field(default_factory=dict)
    catch_up_ms: float = 0.0  # what catching up was expected to take


class ControlledDrafting:
    """A `Drafting` by prompt lookup, by a draft model,
    or by both in turn, as deep as pays.

    The lookup costs nothing: it is asked first, and the depth chosen then. `model` is
    asked only for what was chosen, and not for slots where the lookup has a long match.
    """

    def __init__(
        self,
        lookup: PromptLookup | None,
        model: Drafter | None,
        cost: StepCost,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._lookup = lookup
        self._model = model
        self._cost = cost
        self._clock = clock
        self._controller = DepthController()
        self._step: _Step | None = None
        self._spent_ms = 0.0
        # What this step is expected to take without drafts; None beside a prompt.
        self._plain_ms: float | None = None

    @property
    def total(self) -> DraftUse:
        """Of all sequences so far."""
        return self._controller.total

    def use(self, slot: int) -> DraftUse:
        return self._controller.use(slot)

    def remember(self, tokens: Seq[int]) -> None:
        if self._lookup is not None:
            self._lookup.remember(plain_tokens([*tokens]))

    def draft(self, room: DraftRoom) -> dict[int, tuple[int, ...]]:
        shape = room.shape(None)
        self._plain_ms = self._cost.estimate_ms(shape) if room.num_rows == shape.num_rows else None
        if self._controller.wants_comparison(shape.num_rows):
            return {}
        if not self._controller.may_draft():
            return {}
        started_s = self._clock()
        drafted = self._draft(room)
        self._spent_ms = (self._clock() - started_s) * 1000
        return drafted

    def observe(self, num_accepted: Mapping[int, int], elapsed_ms: float) -> None:
        step, self._step = self._step, None
        spent_ms, self._spent_ms = self._spent_ms, 0.0
        plain_ms, self._plain_ms = self._plain_ms, None
        if step is None:
            self._controller.observe_without(elapsed_ms, spent_ms, plain_ms)
            return
        accepted = {
            slot: num_accepted[i] for slot, i in step.request_ids.items() if i in num_accepted
        }
        self._controller.observe(
            step.grades, step.depths, accepted, elapsed_ms, spent_ms, step.catch_up_ms
        )

    def release(self, slot: int, request_id: int) -> None:  # noqa: ARG002 - the Protocol's signature
        for drafter in (self._lookup, self._model):
            if drafter is not None:
                drafter.release(slot)
        self._controller.release(slot)

    def _draft(self, room: DraftRoom) -> dict[int, tuple[int, ...]]:
        if room.wants_equal_rows and len(room.sequences) < room.num_rows:
            return {}  # somebody in the step may not be drafted for
        most = min(MOST_DEPTH, room.most_depth)
        requests = [_request(seq, most) for seq in room.sequences]
        found = {} if self._lookup is None else _by_slot(requests, self._lookup.propose(requests))
        if not found and self._model is None:
            return {}
        alternatives = [_by_lookup(found)]
        if self._model is not None:
            alternatives.append(_by_model(self._model, requests, found))
        if not any(alternative.offers for alternative in alternatives):
            return {}
        context = self._context(room)
        if context is None or (decision := self._controller.choose(context, alternatives)) is None:
            return {}
        cost = alternatives[decision.alternative].cost
        self._step = _Step()
        if cost is not None:
            self._step.catch_up_ms = cost.catch_up_ms
            # all as deep as was decided where depths have to be equal
            least = 0.0 if room.wants_equal_rows else cost.token_ms / context.decode_ms
            found = self._with_model(requests, found, decision.depths, least)
        depths = decision.depths
        if room.wants_equal_rows:
            depths = _equal_depths(depths, found)
        return self._chosen(self._step, room.sequences, found, depths)

    def _with_model(
        self,
        requests: Seq[DraftRequest],
        found: Mapping[int, Proposal],
        depths: Mapping[int, int],
        least_chance: float,
    ) -> dict[int, Proposal]:
        assert self._model is not None
        asked = [
            replace(request, most_tokens=depths[request.slot], least_chance=least_chance)
            for request in requests
            if request.slot in depths and not _is_long(found.get(request.slot))
        ]
        proposed = _by_slot(asked, self._model.propose(asked))
        graded = {slot: replace(one, grade=_MODEL_GRADE) for slot, one in proposed.items()}
        return {slot: one for slot, one in found.items() if _is_long(one)} | graded

    def _context(self, room: DraftRoom) -> StepContext | None:
        decode_ms = self._plain_ms or self._cost.estimate_ms(room.shape(None))
        if decode_ms is None:
            return None
        known_ms: dict[int, float] = {}

        def step_ms(num_drafted: int) -> float:
            if num_drafted not in known_ms:
                known_ms[num_drafted] = self._cost.estimate_ms(room.shape(num_drafted)) or 0.0
            return known_ms[num_drafted]

        slots = [slot for seq in room.sequences if (slot := seq.slot) is not None]
        return StepContext(
            slots=slots,
            max_rows=room.most_rows,
            decode_ms=decode_ms,
            step_ms=step_ms,
            wants_equal_depths=room.wants_equal_rows,
        )

    @staticmethod
    def _chosen(
        step: _Step,
        sequences: Seq[Sequence],
        found: Mapping[int, Proposal],
        depths: Mapping[int, int],
    ) -> dict[int, tuple[int, ...]]:
        drafted = {}
        for seq in sequences:
            slot = seq.slot
            if slot is None or slot not in depths or slot not in found:
                continue
            tokens = found[slot].tokens[: depths[slot]]
            drafted[seq.request_id] = tokens
            step.request_ids[slot] = seq.request_id
            step.depths[slot] = len(tokens)
            step.grades[slot] = found[slot].grade
        return drafted


def _equal_depths(depths: Mapping[int, int], found: Mapping[int, Proposal]) -> dict[int, int]:
    """Of all slots that of the shortest proposal; nothing where one has none."""
    least = min(
        (min(depth, len(found[slot].tokens)) if slot in found else 0)
        for slot, depth in depths.items()
    )
    return dict.fromkeys(depths, least) if least else {}


def _by_lookup(found: Mapping[int, Proposal]) -> DraftAlternative:
    """What the lookup found."""
    return DraftAlternative(
        [DraftOffer(slot, len(one.tokens), one.grade) for slot, one in found.items()]
    )


def _by_model(
    model: Drafter, requests: Seq[DraftRequest], found: Mapping[int, Proposal]
) -> DraftAlternative:
    """What the model might draft, and long matches where there are any."""
    offers, asked = [], []
    for request in requests:
        proposal = found.get(request.slot)
        if proposal is not None and _is_long(proposal):
            offers.append(DraftOffer(request.slot, len(proposal.tokens), proposal.grade))
        elif request.most_tokens > 0:
            offers.append(
                DraftOffer(request.slot, request.most_tokens, _MODEL_GRADE, takes_time=True)
            )
            asked.append(request)
    return DraftAlternative(offers, model.cost(asked)) if asked else DraftAlternative([])


def _request(seq: Sequence, most_tokens: int) -> DraftRequest:
    assert seq.slot is not None
    most = min(most_tokens, seq.max_new_tokens - seq.num_new_tokens - 1)
    return DraftRequest(
        slot=seq.slot,
        tokens=seq.plain_tokens,
        num_new_tokens=seq.num_new_tokens,
        sampling=seq.sampling,
        most_tokens=max(most, 0),
    )


def _by_slot(requests: Seq[DraftRequest], proposals: Seq[Proposal]) -> dict[int, Proposal]:
    """Those that propose something."""
    return {
        request.slot: one for request, one in zip(requests, proposals, strict=True) if one.tokens
    }


def _is_long(proposal: Proposal | None) -> bool:
    return proposal is not None and proposal.grade >= _LONG_MATCH
