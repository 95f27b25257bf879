"""What is found out about a product, and of which types: for the test and for its child.

Imports nothing native: the tests' own process stays without it.
"""

from __future__ import annotations

from dataclasses import dataclass

TYPES = [
    *["F32", "F16", "BF16"],
    *["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL"],
    *["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"],
]


@dataclass(frozen=True)
class Found:
    name: str
    ours: float  # distance from the exact product, as a share of it
    ggml: float
    is_exact: bool  # rows are the same bits in any company
