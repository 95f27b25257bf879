"""The seam for drafters: who proposes tokens that may come next, for the target to
verify several in one step.

Knows no model and no costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

from appliance.engine.cost import StepShape
from appliance.engine.sequence import Sequence
from appliance.protocol.sampling import SamplingParams


@dataclass(slots=True, kw_only=True)
class DraftRequest:
    """Ask for up to `most_tokens` tokens that may follow `tokens` in `slot`.

    `tokens` are all that are known of the sequence; the answer has `num_new_tokens` so
    far. `sampling` says how the target will choose; its seed is always set, so that a
    drafter can draw with the same randomness. Tokens less likely to be accepted than
    `least_chance` are not worth their time.
    """

    slot: int
    tokens: Seq[int]
    num_new_tokens: int
    sampling: SamplingParams
    most_tokens: int
    least_chance: float = 0.0


@dataclass(slots=True)
class Proposal:
    """Tokens that may follow, at most as many as were asked for, perhaps none.

    `grade` sorts a drafter's proposals by how much it trusts them (0 is least): those
    of one grade are accepted about equally often.
    """

    tokens: tuple[int, ...]
    grade: int = 0


@dataclass(frozen=True)
class DraftCost:
    """Expected milliseconds of one `propose`: `begin_ms` up to the first token of all
    slots, `token_ms` for each further one of the deepest request; and `catch_up_ms` for
    what is known of the sequences but not to the drafter yet, once.
    """

    begin_ms: float
    token_ms: float
    catch_up_ms: float = 0.0


@dataclass
class DraftUse:
    """What drafting brought, in tokens and milliseconds: `expected_ms` when it was
    decided, `real_ms` by the clock.
    """

    num_drafted: int = 0
    num_accepted: int = 0
    expected_ms: float = 0.0
    real_ms: float = 0.0


@dataclass(slots=True)
class DraftRoom:
    """What a step has room for beside its `num_rows`: `most_rows` drafted tokens of
    `sequences`, which all decode.

    `shape(n)` is the step with n of them, `shape(None)` one with the decoding rows
    alone.
    """

    sequences: list[Sequence]
    num_rows: int
    most_rows: int
    shape: Callable[[int | None], StepShape]


class Drafting(Protocol):
    """Decides at each step who is drafted for, by whom and how deep: what the engine asks.

    Called from its thread.
    """

    def draft(self, room: DraftRoom) -> dict[int, tuple[int, ...]]:
        """Tokens that may follow, by request id. Those beyond an answer's end are not used."""

    def observe(self, num_accepted: Mapping[int, int], elapsed_ms: float) -> None:
        """After every step that was computed: how long it took, and how many drafted
        tokens of each request were right.

        A step that failed is not told; its sequences are released.
        """

    @property
    def total(self) -> DraftUse:
        """What it brought to all sequences so far."""

    def use(self, slot: int) -> DraftUse:
        """What it brought to the slot's sequence so far."""

    def remember(self, tokens: Seq[int]) -> None:
        """A text that was there in an earlier life of this model."""

    def release(self, slot: int, request_id: int) -> None:
        """The slot's sequence has ended, or is no longer the one it was."""


class Drafter(Protocol):
    """Called from the engine's thread only."""

    name: str

    def cost(self, requests: Seq[DraftRequest]) -> DraftCost:
        """What `propose` would take for these."""

    def propose(self, requests: Seq[DraftRequest]) -> list[Proposal]:
        """One proposal per request, in order; at most one request per slot.

        It need not be told what became of its proposals: the next request's tokens show
        it.
        """

    def release(self, slot: int) -> None:
        """The slot's sequence has ended."""
