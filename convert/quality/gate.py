"""Refuses a quantized file that predicts something else than its original.

Knows no bytes.

A broken conversion shows in the divergence of its predictions long before anybody reads
its answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from convert.console import print_line, print_note
from convert.counted_progress import choose_counted_progress
from convert.errors import QualityFailed
from convert.importance.matrix import CALIBRATION_TEXT
from convert.importance.wanted import DecodeSizes
from convert.quality.evaluate import EvaluateJob, evaluate

# Mean Kullback-Leibler divergence from the original, in nats a token, without an
# importance matrix. Source: llama.cpp, tools/perplexity/README.md, Llama 3 8B on
# wikitext-2; IQ4_XS and the exact types: bounds, they are not in its table.
USUAL_DIVERGENCE: Mapping[str, float] = {
    "SOURCE": 0.0,  # the same numbers, but for scales that are no F16
    "F32": 0.0,
    "F16": 0.0001,
    "BF16": 0.0005,
    "Q8_0": 0.001355,
    "Q6_K": 0.005452,
    "Q5_K_M": 0.010762,
    "Q4_K_M": 0.031273,
    "IQ4_XS": 0.045,
    "Q4_0": 0.071940,
    "Q3_K_M": 0.101913,
    "Q2_K": 0.445132,
}
_FAR_OUTSIDE = 5.0  # small models lose more than large ones, but not so much
_LEAST_LIMIT = 0.02  # below this no reader could tell
_NUM_WINDOWS = 8  # of 255 predictions each: the mean's standard error is then a few percent


def limit_of(type_name: str) -> float:
    """The most that a file of this type may diverge, in nats a token."""
    return max(_FAR_OUTSIDE * USUAL_DIVERGENCE[type_name], _LEAST_LIMIT)


def check_quality(
    files: Mapping[str, Path],
    reference_type: str,
    reference: Path,
    sizes: DecodeSizes,
    as_json: bool,
) -> None:
    """Compares each file, by its type, with the `reference`, which is of the
    checkpoint's own, on the built-in text.

    Says what it found. Raises `QualityFailed` for the first that is too far off, and
    what `evaluate` raises.
    """
    for type_name, path in files.items():
        if type_name == reference_type:
            print_note(
                f"{type_name} is the checkpoint's own type, so there is nothing to compare it with."
            )
            continue
        job = EvaluateJob(
            model=path,
            reference=reference,
            text=CALIBRATION_TEXT,
            threads=sizes.threads,
            window=sizes.window_tokens,
            max_windows=_NUM_WINDOWS,
        )
        with choose_counted_progress(
            f"quality of {type_name}", "windows", as_json, print_line
        ) as on_progress:
            divergence = evaluate(job, on_progress).quality.divergence
        assert divergence is not None, "there is a reference"
        kl, limit = divergence.kl_mean, limit_of(type_name)
        print_note(
            f"{type_name} diverges from {reference_type} by {kl.value:.5f} nats per token; the "
            f"limit is {limit:.3f}."
        )
        if kl.value > limit:
            raise QualityFailed(
                f"{type_name} diverges from the unquantized model by {kl.value:.4f} +- "
                f"{kl.standard_error:.4f} nats per token; {USUAL_DIVERGENCE[type_name]:.4f} is "
                f"usual for this type and {limit:.4f} is the limit. Either the conversion is "
                "broken or this model does not tolerate this type. No file was published; "
                "without --verify-quality, all of them would be."
            )
