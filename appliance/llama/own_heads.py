"""A model's own heads that draft for it: layers trained to predict one token more from what
all the others made of the last ones (multi-token prediction).

Knows no engine and no verification.

A row of theirs is a token, and what the target made of the token in front of it. So they
read what the target has computed lately: the end of a prompt, and the answer. Source:
llama.cpp common/speculative.cpp (`draft-mtp`), src/models/qwen35.cpp (`graph_mtp`).
"""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import dataclass, field, replace
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from appliance.engine.batch import Batch
from appliance.engine.cost import AttentionCost
from appliance.engine.drafting.drafter import DraftRequest
from appliance.errors import LoadFailed
from appliance.llama.context import Context, ContextConfig
from appliance.llama.draft import FIRST_TOKENS, Draft, DraftModel, SlotCells
from appliance.llama.model import Model
from appliance.protocol.draft_heads import may_have_heads

_CALLS = (
    "llama_set_embeddings_nextn",
    "llama_get_embeddings_nextn",
    "llama_get_embeddings_nextn_ith",
)
Hidden = npt.NDArray[np.float32]  # [width]


@dataclass
class _Seen:
    """What the target made of the last tokens of a slot."""

    first: int  # position
    tokens: list[int] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.first + len(self.tokens)

    def cut(self, first: int, last: int) -> None:
        """Keeps the positions from `first` to `last` - 1."""
        del self.tokens[last - self.first :], self.hidden[last - self.first :]
        num_old = max(first - self.first, 0)
        del self.tokens[:num_old], self.hidden[:num_old]
        self.first += num_old


class OwnHeads(DraftModel):
    """Drafts as a `DraftModel` does, with the heads of its target.

    `note` is to be called after each decode of the target.
    """

    name = "the model's own heads"

    def __init__(
        self, model: Model, target: Context, config: ContextConfig, *, attention: AttentionCost
    ) -> None:
        """Raises `LoadFailed` where the model has none, or llama.cpp not the calls."""
        calls = _calls_for(model)
        super().__init__(
            model,
            replace(config, of_heads=True),
            num_target_vocab=model.num_vocab,
            attention=attention,
        )
        self._calls = calls
        self._target = target
        self._width: int = llama_cpp.llama_model_n_embd(model.handle)
        self._hidden = np.zeros((self._most_rows, self._width), np.float32)
        self._context.batch.embd = self._hidden.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        self._seen: dict[int, _Seen] = {}
        for handle in (target.handle, self._context.handle):
            # of all rows: those with logits alone would be the wrong ones (graph_mtp)
            calls.llama_set_embeddings_nextn(handle, True, False)

    def close(self) -> None:
        """Leaves the model, which is the target."""
        self._context.batch.embd = ctypes.POINTER(ctypes.c_float)()
        self._context.close()

    def note(self, batch: Batch) -> None:
        """What the target made of the rows that it just computed."""
        self._target.synchronize()
        start = self._calls.llama_get_embeddings_nextn(self._target.handle)
        every = np.ctypeslib.as_array(start, (len(batch), self._width))
        rows_of: dict[int, list[int]] = {}
        for at, row in enumerate(batch.rows):
            rows_of.setdefault(row.slot, []).append(at)
        for slot, rows in rows_of.items():
            last = rows[-FIRST_TOKENS:]
            position = batch.rows[last[0]].position
            seen = self._seen.get(slot)
            if seen is None or not seen.first <= position <= seen.end:
                seen = self._seen[slot] = _Seen(position)
            seen.cut(seen.first, position)
            seen.tokens += [batch.rows[at].token for at in last]
            seen.hidden += list(every[last])  # a copy
            seen.cut(seen.end - FIRST_TOKENS, seen.end)

    def release(self, slot: int) -> None:
        super().release(slot)
        self._seen.pop(slot, None)

    def _can_read(self, request: DraftRequest) -> bool:
        return request.most_tokens > 0 and self._oldest(request) is not None

    def _oldest(self, request: DraftRequest) -> int | None:
        """The first position from which on it is known what the target made of the token
        in front; None: not even of the last one.
        """
        seen, tokens = self._seen.get(request.slot), request.tokens
        at = len(tokens) - 1
        if seen is None or not seen.first < at <= seen.end:
            return None
        while at > seen.first and seen.tokens[at - 1 - seen.first] == tokens[at - 1]:
            at -= 1
        return at + 1 if at < len(tokens) - 1 else None

    def _num_kept(self, request: DraftRequest) -> int:
        """How many of the slot's cells the sequence goes on from; 0: none."""
        held, oldest = self._held.get(request.slot), self._oldest(request)
        if held is None or oldest is None or self._is_full(held, request):
            return 0
        return held.num_confirmed if oldest <= held.base + held.num_confirmed else 0

    def _num_pending(self, request: DraftRequest) -> int:
        num_kept, oldest = self._num_kept(request), self._oldest(request)
        if oldest is None:
            return 0
        base = self._held[request.slot].base if num_kept else oldest
        return len(request.tokens) - base - num_kept

    def _pending(self, request: DraftRequest) -> list[int]:
        slot, num_kept = request.slot, self._num_kept(request)
        if num_kept:
            held = self._held[slot]
            if num_kept < len(held.tokens):  # drafted: from no more than its own guesses
                self._context.clear_tail(slot, num_kept)
                del held.tokens[num_kept:]
        else:
            oldest = self._oldest(request)
            assert oldest is not None, "who can read"
            self._context.clear(slot)
            held = self._held[slot] = SlotCells(oldest)
        return list(request.tokens[held.base + num_kept :])

    def _add_known(self, batch: Batch, slot: int, token: int, *, wants_logits: bool) -> int:
        held, seen = self._held[slot], self._seen[slot]
        in_front = held.base + len(held.tokens) - 1
        row = super()._add_known(batch, slot, token, wants_logits=wants_logits)
        self._hidden[row] = seen.hidden[in_front - seen.first]
        return row

    def _add_drafted(self, batch: Batch, draft: Draft) -> int:
        of_last = self._calls.llama_get_embeddings_nextn_ith(self._context.handle, draft.row)
        row = super()._add_known(batch, draft.request.slot, draft.tokens[-1], wants_logits=True)
        self._hidden[row] = np.ctypeslib.as_array(of_last, (self._width,))
        return row


def _calls_for(model: Model) -> Any:
    """llama.cpp's calls, which are no part of its public interface."""
    architecture = model.metadata("general.architecture") or ""
    num_layers = llama_cpp.llama_model_n_layer_nextn(model.handle)
    if num_layers != 1 or not may_have_heads(architecture):
        raise LoadFailed(
            f"This model has no heads that could draft for it ({architecture}, {num_layers} layers "
            "of such): give another model with --draft, or --draft off."
        )
    try:
        calls: Any = importlib.import_module("llama_cpp.llama_cpp_ext")
        for name in _CALLS:
            getattr(calls, name)
    except (ImportError, AttributeError) as error:
        raise LoadFailed(
            f"The model's own heads cannot draft: this llama.cpp lacks the calls for it ({error}). "
            "Use --draft off."
        ) from None
    return calls
