"""What may be kept of sequences that have ended. Knows no cells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KeepPolicy:
    """How many cells may stay in use for prefixes that no running sequence has."""

    max_cells: int
    ttl_s: float  # for which an unused prefix stays
    max_host_bytes: int = 0  # of host memory, for what has to go from the cache
    # Fewer cells stay beside running sequences where looking past so many would slow
    # one of them by more than this share.
    max_slowdown: float | None = None
