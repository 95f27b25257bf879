"""What is weighed before a step drafts:
what drafters offer, and what the step has room for.

Knows no drafter and no tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from appliance.engine.drafting.drafter import DraftCost


@dataclass(frozen=True)
class DraftOffer:
    """Tokens that may be drafted for a slot."""

    slot: int
    num_tokens: int  # at most
    grade: int = 0  # as of a `Proposal`
    takes_time: bool = False  # to draft them; those of a lookup are there already


@dataclass(frozen=True)
class DraftAlternative:
    """One way to draft in this step; taking it excludes all others."""

    offers: Seq[DraftOffer]
    cost: DraftCost | None = None  # of the offers that take time


@dataclass(frozen=True)
class StepContext:
    """The step to come: who decodes in it, and what drafted rows would cost it."""

    slots: Seq[int]  # that decode
    max_rows: int  # drafted ones that there is room for
    decode_ms: float  # a step with the decoding rows only
    step_ms: Callable[[int], float]  # this step, by the number of drafted rows
    wants_equal_depths: bool = False  # of all slots: they are computed together only then


@dataclass(frozen=True, kw_only=True)
class DraftDecision:
    """Which alternative is taken, and how deep each slot drafts."""

    alternative: int  # its index
    depths: dict[int, int]  # slot -> tokens to draft
    undrafted_ms: float  # this step without drafts
    extra_ms: float  # what drafting is expected to add to it
    num_expected: dict[int, float]  # slot -> accepted tokens expected
