"""Which quantization is the better one. Knows no file and no bytes.

The order is that of the perplexities in llama.cpp's tools/quantize/README.md where it has them, else that of the bits
per weight.
"""

from __future__ import annotations

QUALITY_ORDER = (
    "F32",
    "BF16",
    "F16",
    "Q8_0",
    "Q6_K",
    "Q5_K_M",
    "Q5_K_S",
    "Q5_1",
    "Q5_0",
    "Q4_K_M",
    "Q4_K_S",
    "IQ4_NL",
    "IQ4_XS",
    "Q4_1",
    "MXFP4_MOE",
    "NVFP4",
    "Q4_0",
    "Q3_K_L",
    "Q3_K_M",
    "IQ3_M",
    "IQ3_S",
    "Q3_K_S",
    "IQ3_XS",
    "IQ3_XXS",
    "Q2_K",
    "IQ2_M",
    "Q2_K_S",
    "IQ2_S",
    "IQ2_XS",
    "IQ2_XXS",
    "TQ2_0",
    "TQ1_0",
    "IQ1_M",
    "IQ1_S",
    "Q1_0",
)
_RANKS = {name: rank for rank, name in enumerate(QUALITY_ORDER)}


def quality_rank(quantization: str) -> int:
    """Smaller is better; unknown names come last."""
    return _RANKS.get(quantization, len(QUALITY_ORDER))
