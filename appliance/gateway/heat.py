"""How hot the machine is, for whoever asks. Knows no model and no remedy."""

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


async def heat() -> Heat | None:
    """None where nothing is known of it. Sensors take their time: they are read in a thread."""
    thermal = await asyncio.to_thread(read_thermal, ROOT, ())
    if thermal is None:
        return None
    return Heat(
        celsius=thermal.hottest_celsius,
        part=thermal.hottest_zone or None,
        state=None if thermal.state is None else thermal.state.value,
        reason=thermal.reason,
    )
