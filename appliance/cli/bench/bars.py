"""Bars of text, for terminals and pipes. Knows nothing of what they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH = 40  # of the longest, in cells
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


@dataclass(frozen=True)
class Bar:
    name: str
    value: float


def as_bars(title: str, bars: Sequence[Bar]) -> str:
    """One below the other, as long as their values; at the end of each its value."""
    width = max(len(bar.name) for bar in bars)
    most = max(bar.value for bar in bars) or 1.0
    lines = [
        f"  {bar.name.ljust(width)}  {_bar(bar.value / most)} {short(bar.value)}" for bar in bars
    ]
    return "\n".join([title, *lines])


def short(value: float) -> str:
    """Three places below ten, one above."""
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _bar(share: float) -> str:
    whole, eighths = divmod(round(share * _WIDTH * 8), 8)
    return "█" * whole + _EIGHTHS[eighths]
