"""A small model that drafts for a large one: its own context, its own KV cache.

Knows no engine and no verification.

It reads the end of a sequence only: at first the last `FIRST_TOKENS`, later as many as
there are cells for. What comes next follows mostly from what is near, so catching up
with a long prompt costs little, and a slot's cells are few.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from pathlib import Path

from appliance.engine.batch import Batch
from appliance.engine.cost import AttentionCost, StepCost
from appliance.engine.drafting.drafter import DraftCost, DraftRequest, Proposal
from appliance.errors import DecodeFailed, LoadFailed
from appliance.llama.context import Context, ContextConfig
from appliance.llama.draft_choice import choose_like_target, is_greedy
from appliance.llama.model import Model
from appliance.llama.sampling.logits import Row
from appliance.llama.sampling.noise import Noise
from appliance.llama.vocabulary.differences import first_difference

_log = logging.getLogger(__name__)
FIRST_TOKENS = 96  # of a sequence that are read before the first draft
# of a slot between two proposals: the token accepted last, and the one that was drafted
# before it
_USUAL_ROWS = 2
_CURVE_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
# the least of them counts: what is thought too slow is never asked, and so never found
# quicker
_CURVE_ROUNDS = 3
_MAX_CURVE_S = 2.0
_CHOOSING_DECAY = 0.1  # weight of the newest observation


@dataclass
class SlotCells:
    """What a slot's cells hold."""

    base: int = 0  # the sequence's position from which on `tokens` are the same
    num_added: int = 0  # tokens in front that the sequence does not have
    tokens: list[int] = field(default_factory=list)
    num_confirmed: int = 0  # of `tokens`, that were there when the last draft began


@dataclass(kw_only=True)
class Draft:
    """A proposal in the making."""

    request: DraftRequest
    noise: Noise
    row: int  # of the last batch, with the logits of its next token
    tokens: list[int] = field(default_factory=list)
    chance: float = 1.0  # that all of it is right, as far as the draft itself believes


class DraftModel:
    """Implements `appliance.engine.drafting.drafter.Drafter`
    for all slots of its target.

    Whatever fails in here costs the proposals only: the draft is switched off then, and
    the reason is logged.
    """

    name = "draft model"

    def __init__(
        self,
        model: Model,
        config: ContextConfig,
        *,
        num_target_vocab: int,
        attention: AttentionCost,
    ) -> None:
        self._model = model
        self._context = Context(model, config)
        self._num_common = min(model.num_vocab, num_target_vocab)
        self._most_rows = self._context.max_rows
        self._window = config.sizes.kv_cells // config.sizes.slots
        self._held: dict[int, SlotCells] = {}
        self._cost = StepCost(attention)
        self._choosing_ms = 0.0  # a token, once it is computed what it may be
        self._is_off = False

    def close(self) -> None:
        self._context.close()
        self._model.close()

    def learn_curve(self) -> None:
        """What its steps cost, so that this is known from the first token on.

        Raises `DecodeFailed`.
        """
        deadline_s = time.perf_counter() + _MAX_CURVE_S
        for num_rows in _CURVE_ROWS:
            if num_rows > min(self._most_rows, self._window) or time.perf_counter() > deadline_s:
                return
            least_ms = min(self._time_rows(num_rows) for _ in range(_CURVE_ROUNDS))
            self._cost.observe(
                self._cost.shape(num_rows, num_rows * (num_rows + 1) // 2, num_rows), least_ms
            )

    def _time_rows(self, num_rows: int) -> float:
        batch = Batch()
        for at in range(num_rows):
            batch.add(self._model.bos or 0, at, 0, wants_logits=at == num_rows - 1)
        elapsed_ms = self._compute(batch)
        self._context.clear(0)
        return elapsed_ms

    def cost(self, requests: Seq[DraftRequest]) -> DraftCost:
        """Nothing while it is switched off: it then proposes nothing, either."""
        if self._is_off or not requests:
            return DraftCost(0.0, 0.0)
        pending = [self._num_pending(request) for request in requests]
        begin_ms = self._expected_ms(sum(min(num, _USUAL_ROWS) for num in pending))
        all_ms = self._expected_ms(min(sum(pending), self._most_rows))
        choosing_ms = self._choosing_ms * len(requests)
        token_ms = self._expected_ms(len(requests)) + choosing_ms
        return DraftCost(begin_ms + choosing_ms, token_ms, max(all_ms - begin_ms, 0.0))

    def propose(self, requests: Seq[DraftRequest]) -> list[Proposal]:
        """As many slots as one step can bring up to date draft; the others have their
        turn later.
        """
        if self._is_off:
            return [Proposal(()) for _ in requests]
        try:
            drafts = self._catch_up([request for request in requests if self._can_read(request)])
            self._draft(drafts)
        except DecodeFailed as error:
            self._is_off = True
            _log.error("the draft model is switched off: %s", error)
            return [Proposal(()) for _ in requests]
        done = {draft.request.slot: Proposal(tuple(draft.tokens)) for draft in drafts}
        return [done.get(request.slot, Proposal(())) for request in requests]

    def release(self, slot: int) -> None:
        if self._held.pop(slot, None) is not None:
            self._context.clear(slot)

    def _can_read(self, request: DraftRequest) -> bool:
        """Whether it wants tokens,
        and none that is new is padding that only the target has.
        """
        new = request.tokens[-self._num_pending(request) :]
        return request.most_tokens > 0 and max(new) < self._num_common

    def _num_pending(self, request: DraftRequest) -> int:
        """Tokens to compute before the first can be drafted."""
        held = self._held.get(request.slot)
        if held is None:
            return min(len(request.tokens), FIRST_TOKENS)
        if self._is_full(held, request):
            return self._window // 2
        return len(request.tokens) - (held.base - held.num_added) - _num_known(held, request.tokens)

    def _is_full(self, held: SlotCells, request: DraftRequest) -> bool:
        return len(request.tokens) - held.base + held.num_added + request.most_tokens > self._window

    def _catch_up(self, requests: Seq[DraftRequest]) -> list[Draft]:
        """Computes, in one batch, what of the requests' tokens is new."""
        batch, drafts = Batch(), []
        for request in sorted(requests, key=self._num_pending):
            pending = self._pending(request)
            if len(batch) + len(pending) > self._most_rows:
                continue
            held = self._held[request.slot]
            row = -1
            for at, token in enumerate(pending, 1):
                row = self._add_known(batch, request.slot, token, wants_logits=at == len(pending))
            held.num_confirmed = len(held.tokens)
            seed = request.sampling.seed
            assert seed is not None, "the engine sets one for every request"
            drafts.append(Draft(request=request, noise=Noise(seed), row=row))
        if drafts:
            self._decode(batch)
        return drafts

    def _pending(self, request: DraftRequest) -> list[int]:
        """The tokens that the slot's cells lack;
        takes from them what the sequence has not.
        """
        held = self._held.get(request.slot)
        tokens = request.tokens
        if held is None or self._is_full(held, request):
            num_tokens = FIRST_TOKENS if held is None else self._window // 2
            self._context.clear(request.slot)
            base = max(len(tokens) - num_tokens, 0)
            added = (
                [self._model.bos]
                if base and self._model.adds_bos and self._model.bos is not None
                else []
            )
            self._held[request.slot] = SlotCells(base, len(added))
            return [*added, *tokens[base:]]
        offset = held.base - held.num_added
        num_known = _num_known(held, tokens)
        if num_known < len(held.tokens):
            self._context.clear_tail(request.slot, num_known)
            del held.tokens[num_known:]
        return list(tokens[num_known + offset :])

    def _draft(self, drafts: Seq[Draft]) -> None:
        """One token for every slot that goes on,
        then one batch for the next, until none does.
        """
        while drafts:
            going_on = self._extended(drafts)
            if not going_on:
                return
            batch = Batch()
            for draft in going_on:
                draft.row = self._add_drafted(batch, draft)
            self._decode(batch)
            drafts = going_on

    def _add_known(self, batch: Batch, slot: int, token: int, *, wants_logits: bool) -> int:
        """The row of the next token that the sequence has."""
        tokens = self._held[slot].tokens
        tokens.append(token)
        return batch.add(token, len(tokens) - 1, slot, wants_logits)

    def _add_drafted(self, batch: Batch, draft: Draft) -> int:
        """The row of the token that was drafted last."""
        return self._add_known(batch, draft.request.slot, draft.tokens[-1], wants_logits=True)

    def _extended(self, drafts: Seq[Draft]) -> list[Draft]:
        """Those that go on, all with a token more."""
        started_s = time.perf_counter()
        rows = self._context.logits_in_place([draft.row for draft in drafts])
        going_on = [
            draft for draft, row in zip(drafts, rows, strict=True) if self._extend(draft, row)
        ]
        elapsed_ms = (time.perf_counter() - started_s) * 1e3 / len(drafts)
        self._choosing_ms += (
            _CHOOSING_DECAY * (elapsed_ms - self._choosing_ms) if self._choosing_ms else elapsed_ms
        )
        return going_on

    def _extend(self, draft: Draft, row: Row) -> bool:
        """Appends a token unless the draft doubts it;
        whether another one is to follow.
        """
        request = draft.request
        index = request.num_new_tokens + len(draft.tokens)
        choice = choose_like_target(row[: self._num_common], request.sampling, draft.noise, index)
        if is_greedy(request.sampling):  # else what is drawn alike may be unlikely
            draft.chance *= choice.top_probability
            if draft.tokens and draft.chance < request.least_chance:
                return False
        draft.tokens.append(choice.token)
        return (
            len(draft.tokens) < request.most_tokens and choice.token not in self._model.end_tokens
        )

    @property
    def _num_used(self) -> int:
        return sum(len(held.tokens) for held in self._held.values())

    def _decode(self, batch: Batch) -> None:
        """Computes it, and learns how long that took."""
        elapsed_ms = self._compute(batch)
        num_attended = sum(row.position + 1 for row in batch.rows)
        self._cost.observe(self._cost.shape(len(batch), num_attended, self._num_used), elapsed_ms)

    def _compute(self, batch: Batch) -> float:
        """Milliseconds."""
        started_s = time.perf_counter()
        self._context.decode(batch)
        self._context.synchronize()
        return (time.perf_counter() - started_s) * 1e3

    def _expected_ms(self, num_rows: int) -> float:
        num_attended = num_rows * self._num_used // max(len(self._held), 1)
        return (
            self._cost.estimate_ms(self._cost.shape(max(num_rows, 1), num_attended, self._num_used))
            or 0.0
        )


def _num_known(held: SlotCells, tokens: Seq[int]) -> int:
    """How many tokens of the slot's cells are the sequence's; never its last one, whose
    logits are wanted.
    """
    offset, num_known = held.base - held.num_added, held.num_confirmed
    most = min(len(held.tokens), len(tokens) - offset - 1)
    while num_known < most and held.tokens[num_known] == tokens[num_known + offset]:
        num_known += 1
    return min(num_known, most)


def load_draft(path: Path, target: Model, *, use_extra_bufts: bool, use_mmap: bool) -> Model:
    """The draft model of this file.

    Raises `LoadFailed` where it cannot draft for `target`, with the way out.
    """
    model = Model(path, use_extra_bufts=use_extra_bufts, use_mmap=use_mmap)
    reason = _unfit(target, model)
    if reason is None:
        return model
    model.close()
    raise LoadFailed(
        f"{path.name} cannot draft for this model: {reason}. Give a smaller model of the same "
        "family, or --draft off."
    )


def _unfit(target: Model, draft: Model) -> str | None:
    if not draft.memory.can_roll_back:
        return "it is recurrent, so rejected tokens cannot be taken back"
    return first_difference(target, draft)
