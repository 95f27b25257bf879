"""How hot the machine is, for whoever asks, and what is done about it. Knows no model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from appliance.fit.machine.thermal import read_thermal

ROOT = Path("/")


@dataclass(frozen=True, kw_only=True)
class Heat:
    """As the kernel shows it; None is what it does not tell."""

    celsius: float | None  # of the hottest part
    part: str | None
    state: str | None  # normal, hot or throttling
    reason: str  # what `state` follows from
    # Watching, measuring, governing or not better: see `Phase`; None where nothing is to
    # be held back.
    governor: str | None = None
    share: float = 1.0  # of the machine's power that may be used


@dataclass(frozen=True, kw_only=True)
class GovernedHeat:
    """As it was last looked at."""

    celsius: float | None
    margin_celsius: float | None  # to where the machine slows down, as far as known
    throttles: bool
    phase: str
    share: float  # of the machine's power that may be used


async def heat(governed: GovernedHeat | None = None) -> Heat | None:
    """None where nothing is known of it. Sensors take their time: they are read in a thread."""
    thermal = await asyncio.to_thread(read_thermal, ROOT, ())
    if thermal is None:
        return None
    return Heat(
        celsius=thermal.hottest_celsius,
        part=thermal.hottest_zone or None,
        state=None if thermal.state is None else thermal.state.value,
        reason=thermal.reason,
        governor=None if governed is None else governed.phase,
        share=1.0 if governed is None else governed.share,
    )
