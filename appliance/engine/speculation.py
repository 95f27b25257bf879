"""The seam for drafters: who proposes tokens that may come next, for the target to verify several in one step.

Knows no model and no costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

from appliance.engine.cost import StepShape
from appliance.engine.sequence import SamplingParams, Sequence


@dataclass(frozen=True)
class DraftRequest:
    """Ask for up to `most_tokens` tokens that may follow `tokens` in `slot`.

    `tokens` are all that are known of the sequence, of which the first `num_prompt_tokens` are its prompt. `sampling`
    says how the target will choose; its seed is always set, so that a drafter can draw with the same randomness.
    """

    slot: int
    tokens: Seq[int]
    num_prompt_tokens: int
    sampling: SamplingParams
    most_tokens: int


@dataclass(frozen=True)
class Proposal:
    """Tokens that may follow, at most as many as were asked for, perhaps none.

    `grade` sorts a drafter's proposals by how much it trusts them (0 is least): those of one grade are accepted about
    equally often.
    """

    tokens: tuple[int, ...]
    grade: int = 0


@dataclass(frozen=True)
class DraftCost:
    """Expected milliseconds of one `propose`: `begin_ms` however little is asked for (what has to be caught up with),
    and `token_ms` for each further token of the deepest request, all slots together.
    """

    begin_ms: float
    token_ms: float


class Drafting(Protocol):
    """Decides at each step who is drafted for, by whom and how deep: what the engine asks. Called from its thread."""

    def draft(
        self,
        sequences: Seq[Sequence],
        most_rows: int,
        alone: StepShape,
        shape: Callable[[int], StepShape],
    ) -> dict[int, tuple[int, ...]]:
        """Tokens that may follow, by request id; at most `most_rows` in all. Those beyond an answer's end are not used.

        `sequences` are decoding. `shape(n)` is the coming step with n drafted tokens, `alone` that of one with the
        decoding rows only.
        """

    def observe(self, num_accepted: Mapping[int, int], elapsed_ms: float) -> None:
        """After every step that was computed: how long it took, and how many drafted tokens of each request were right.

        A step that failed is not told; its sequences are released.
        """

    def release(self, slot: int, request_id: int) -> None:
        """The slot's sequence has ended, or is no longer the one it was."""


class Drafter(Protocol):
    """Called from the engine's thread only."""

    name: str

    def cost(self, requests: Seq[DraftRequest]) -> DraftCost:
        """What `propose` would take for these."""

    def propose(self, requests: Seq[DraftRequest]) -> list[Proposal]:
        """One proposal per request, in order; at most one request per slot.

        It need not be told what became of its proposals: the next request's tokens show it.
        """

    def release(self, slot: int) -> None:
        """The slot's sequence has ended."""
