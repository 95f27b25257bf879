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
    """Ask for tokens that may follow in a slot."""

    slot: int
    tokens: Seq[int]  # all that are known of its sequence
    num_new_tokens: int  # of the answer so far
    # How the target will choose. The seed is always set, so that a drafter can draw
    # with the same randomness.
    sampling: SamplingParams
    most_tokens: int  # to propose
    least_chance: float = 0.0  # tokens less likely to be accepted are not worth their time


@dataclass(slots=True)
class Proposal:
    """Tokens that may follow, at most as many as were asked for, perhaps none."""

    tokens: tuple[int, ...]
    # How much the drafter trusts them, 0 least: those of one grade are accepted about
    # equally often.
    grade: int = 0


@dataclass(frozen=True)
class DraftCost:
    """Expected milliseconds of one `propose`."""

    begin_ms: float  # up to the first token of all slots
    token_ms: float  # for each further one of the deepest request
    catch_up_ms: float = 0.0  # once, for what is known of the sequences but new to the drafter


@dataclass
class DraftUse:
    """What drafting brought."""

    num_drafted: int = 0  # tokens
    num_accepted: int = 0
    expected_ms: float = 0.0  # saved, as was expected when it was decided
    real_ms: float = 0.0  # saved, by the clock


@dataclass(slots=True)
class DraftRoom:
    """What a step has room for beside its own rows."""

    sequences: list[Sequence]  # that may be drafted for: all decode
    num_rows: int  # the step's own
    most_rows: int  # drafted tokens of all of them
    most_depth: int  # of one of them
    # By the number of drafted tokens: the step with so many of them. None: a step with
    # the decoding rows alone.
    shape: Callable[[int | None], StepShape]
    # Sequences are computed together only where each has as many rows: see
    # `Capabilities.wants_equal_rows`.
    wants_equal_rows: bool = False


class Drafting(Protocol):
    """Decides at each step who is drafted for, by whom
    and how deep: what the engine asks.

    Called from its thread.
    """

    def draft(self, room: DraftRoom) -> dict[int, tuple[int, ...]]:
        """Tokens that may follow, by request id.

        Those beyond an answer's end are not used.
        """

    def observe(self, num_accepted: Mapping[int, int], elapsed_ms: float) -> None:
        """After every step that was computed: how long it took, and how many drafted
        tokens of each request were right.

        A step that failed is not reported; its sequences are released.
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

        What became of its proposals, the next request's tokens show.
        """

    def release(self, slot: int) -> None:
        """The slot's sequence has ended."""
