"""The seam under the engine: what it asks of a model that can decode.

Knows no implementation.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from appliance.engine.adapters.sets import AdapterSet
from appliance.engine.batch import Batch
from appliance.engine.constraint import Constraint
from appliance.engine.cost import AttentionCost
from appliance.errors import DecodeFailed
from appliance.protocol.sampling import SamplingParams


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What the loaded model and context allow."""

    num_cells: int  # of the unified KV cache
    num_slots: int  # sequences in a batch have the ids 0 to `num_slots` - 1
    # Ids from this one to `num_sequence_ids` - 1 may share cells without ever being in
    # a batch. There are none where the model's sequences cannot share.
    first_kept_id: int
    num_sequence_ids: int
    max_rows: int  # of one decode
    num_vocab: int
    end_tokens: frozenset[int]  # the model's end-of-generation ids
    attention: AttentionCost
    max_logit_rows: int  # of one decode: at least one for each slot, and one more
    # Rows of one decode for drafted tokens. 0 where nothing was prepared for them, or
    # where what was computed cannot be taken back.
    max_draft_rows: int = 0
    # Of one sequence, where no more can be taken back, as of recurrent states; None: all
    # can.
    max_draft_depth: int | None = None
    # Rows of one sequence, from a multiple of their number on, whose results do not
    # depend on how many such blocks a decode has.
    block_rows: int = 64
    # No row's result depends on what else is in its decode, nor on where its cells lie.
    exact_rows: bool = False
    why_not_exact: str = ""  # half a sentence, once it was looked at; empty where they are
    why_cells_stay: str = ""  # and cannot be moved to other positions; empty where they can
    # Sequences share no cells, but what one is can be saved and given to another, as a
    # whole: who loads what was saved from cell `first` on has to have been there.
    keeps_states: bool = False
    state_bytes: int = 0  # of each such save, whatever its cells take
    # Rows of different sequences are computed together only where each has as many: a
    # step of other rows is several. So are drafted ones, or none can be taken back.
    wants_equal_rows: bool = False


@dataclass(frozen=True)
class SampleRequest:
    """Ask for the next tokens of a slot."""

    slot: int
    # Batch rows: the logits of the first token are in `rows[0]`, those of the token
    # that follows `drafted[i]` in `rows[i + 1]`.
    rows: tuple[int, ...]
    drafted: tuple[int, ...] = ()


@dataclass(frozen=True)
class ScoreRequest:
    """Ask what the model gives to a token that is known already."""

    row: int  # of the batch: the token in front of it
    token: int
    num_top: int  # how many of the most likely tokens are wanted beside it


class TokenLogprob(NamedTuple):
    """Natural logarithm of a token's probability."""

    token: int
    logprob: float


@dataclass(frozen=True)
class Logprobs:
    """What the model itself gave, before any sampling."""

    chosen: float  # to the token that is there
    top: tuple[TokenLogprob, ...]  # to the most likely ones, best first


@dataclass(frozen=True)
class ChosenToken:
    """A sampled token."""

    token: int
    logprobs: Logprobs | None = None  # where `SamplingParams.num_top_logprobs` asks for them


class Runner(Protocol):
    """A model ready to decode. Called from one thread only."""

    @property
    def capabilities(self) -> Capabilities: ...

    def open_sampler(
        self,
        slot: int,
        sampling: SamplingParams,
        prompt: Seq[int],
        constraint: Constraint | None = None,
    ) -> None:
        """Prepares sampling for a new sequence in `slot`; its seed is set.

        Only tokens that `constraint` allows are chosen; what it raises is its
        sequence's error. Raises `BadRequest` for parameters that are out of range.
        """

    def close_sampler(self, slot: int) -> None:
        """Frees the slot's sampler."""

    def move_sampler(self, source: int, target: int) -> None:
        """Takes a sampler out of a slot, to an id below zero, or puts it back into one."""

    def copy_cells(self, source_id: int, target_id: int, num_tokens: int) -> None:
        """Lets a sequence without cells share another one's first `num_tokens`; nothing
        is computed or allocated.
        """

    def remove_cells(self, sequence_id: int) -> None:
        """Takes all cells from a sequence; those that no other one shares are free."""

    def remove_tail(self, slot: int, num_tokens: int) -> None:
        """Takes back what the last decode computed of a sequence beyond its first
        `num_tokens` tokens, once: no more than `Capabilities.max_draft_depth`.
        """

    def save_cells(self, sequence_id: int, first: int, max_bytes: int) -> bytes | None:
        """A copy of a sequence's cells from position `first` on; None, and nothing
        copied, if it would be larger.
        """

    def load_cells(
        self, target_id: int, data: bytes, first: int, last: int, shift: int = 0
    ) -> bool:
        """Gives a sequence of `first` + `shift` tokens what was saved of the positions
        `first` to `last` - 1, moved by `shift` positions.

        Needs as many free cells as were saved, for the time of the call. False, and
        nothing changed, if the data is not accepted.
        """

    def copy_moved(self, source_id: int, target_id: int, first: int, last: int, shift: int) -> bool:
        """Gives a sequence of `first` + `shift` tokens cells of its own that hold what
        another one's of the positions `first` to `last` - 1 do, moved by `shift` positions.

        Needs as many free cells. False, and nothing changed, if it cannot be done now.
        """

    def use_adapters(self, adapters: AdapterSet) -> None:
        """From now on rows are computed with these; nothing happens where that is so.

        Raises `DecodeFailed`.
        """

    def decode(self, batch: Batch) -> None:
        """Computes all rows.

        Raises `CacheFull`, and then nothing has changed, or another `DecodeFailed`, after
        which the cells of the batch's slots hold nothing valid.
        """

    def pace(self, share: float) -> float:
        """Computes with fewer threads, if every result stays the same and so few are
        enough to use this share of the power of all; returns what is left to be saved by
        waiting, as the share of time in which these may compute.
        """

    def synchronize(self) -> None:
        """Waits until the last decode is done; `sample` does that itself."""

    def score(self, requests: Seq[ScoreRequest]) -> list[Logprobs | DecodeFailed]:
        """Log-probabilities from the logits of the last decode, per request; an error
        is that row's alone.
        """

    def sample(self, requests: Seq[SampleRequest]) -> list[list[ChosenToken] | DecodeFailed]:
        """The tokens that follow, per request, at most one request per slot, from the
        logits of the last decode.

        Each token is chosen from the model's own distribution, with randomness that
        depends only on the seed, its index in the answer and the candidates: whatever
        was drafted, the answer is the same. After the first choice that is not the
        token drafted there, or that ends generation, nothing more is known: so one
        token more than drafted ones were right. All are accepted into the slot's
        sampler. Where the first row's logits are no numbers, what that ends its request
        with.
        """
