"""Which file of a model is the better one:
as measured on this very model, else as published.

Knows no bytes.

The published order is that of the perplexities in llama.cpp's tools/quantize/README.md
where it has them, else that of the bits per weight. What was measured counts only where
every file was, and all against the same reference on the same text: a number of one
text does not compare with a number of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.fit.plan.quality_sidecar import MeasuredFile, Setting, read_measured
from appliance.store.gguf_header import GgufHeader

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
# By how much the perplexity of Llama 3 8B grows: llama.cpp's
# tools/quantize/quantize.cpp.
_PUBLISHED_PERPLEXITIES = {
    "Q8_0": 0.0026,
    "Q6_K": 0.0217,
    "Q5_K_M": 0.0569,
    "Q5_K_S": 0.1049,
    "Q5_1": 0.1062,
    "Q5_0": 0.1316,
    "Q4_K_M": 0.1754,
    "Q4_K_S": 0.2689,
    "Q4_1": 0.4511,
    "Q4_0": 0.4685,
    "Q3_K_L": 0.5562,
    "Q3_K_M": 0.6569,
    "Q3_K_S": 1.6321,
    "Q2_K": 3.5199,
    "Q2_K_S": 3.1836,
}
_RANKS = {name: rank for rank, name in enumerate(QUALITY_ORDER)}


def quality_rank(quantization: str) -> int:
    """Smaller is better; unknown names come last."""
    return _RANKS.get(quantization, len(QUALITY_ORDER))


@dataclass(frozen=True)
class Ranking:
    """Files of one model, the best first."""

    headers: tuple[GgufHeader, ...]
    divergences: Mapping[Path, float] | None  # nats per token; None where not all are measured

    def source_of(self, header: GgufHeader) -> str:
        """Why `header` stands where it does, in words."""
        if self.divergences is None:
            return "by published quality"
        return f"as measured: mean KL divergence {self.divergences[header.path]:.4f} nats"

    def quality_of(self, header: GgufHeader) -> str:
        """How good `header` is, as short as a table wants it: `KL 0.0545` measured
        here, `ppl +0.175` as published.
        """
        if self.divergences is not None:
            return f"KL {self.divergences[header.path]:.4f}"
        published = _PUBLISHED_PERPLEXITIES.get(header.quantization)
        return "-" if published is None else f"ppl +{published:.3f}"


def rank(headers: Sequence[GgufHeader]) -> Ranking:
    """Orders files of one model by their measured divergence if all have one, else by
    the published order.
    """
    published = sorted(
        headers, key=lambda header: (quality_rank(header.quantization), -header.num_file_bytes)
    )
    divergences = _common_divergences([header.path for header in published])
    if divergences is None:
        return Ranking(tuple(published), None)
    return Ranking(
        tuple(sorted(published, key=lambda header: divergences[header.path])), divergences
    )


def _common_divergences(paths: Sequence[Path]) -> dict[Path, float] | None:
    """Of every path by the setting that all share:
    of several the one with the most text.
    """
    measured: dict[Path, MeasuredFile] = {}
    for path in paths:
        file = read_measured(path)
        if file is None:
            return None
        measured[path] = file
    settings = {setting for file in measured.values() for setting in file.divergences}
    shared = [
        setting
        for setting in settings
        if all(_divergence(f, setting) is not None for f in measured.values())
    ]
    if not shared:
        return None
    best = max(
        shared, key=lambda s: (s.num_windows * s.window_tokens, s.text_sha256, s.reference_sha256)
    )
    found = {path: _divergence(file, best) for path, file in measured.items()}
    return {path: nats for path, nats in found.items() if nats is not None}


def _divergence(file: MeasuredFile, setting: Setting) -> float | None:
    """The reference itself is none off."""
    return 0.0 if file.sha256 == setting.reference_sha256 else file.divergences.get(setting)
