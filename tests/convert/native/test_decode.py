"""What llama.cpp writes with a converted model: the tensors are where they belong and
rotated as they should be.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from convert.pipeline import Job, convert
from tests.convert import llama_tools
from tests.convert.checkpoints import EMBEDDED, SHARED, Shape, write_checkpoint

SHARED_MODELS = SHARED / "models"


def test_stories_tell_their_known_story(tmp_path: Path) -> None:
    if not SHARED_MODELS.is_dir():
        pytest.skip("the shared checkpoints are not beside the repository")
    model = convert(
        Job(
            source=SHARED_MODELS / "stories260K",
            directory=tmp_path,
            name="stories",
            types=("F32",),
            num_threads=2,
        )
    )[0].path
    assert (
        llama_tools.continue_text(model, "", 60)
        .strip()
        .startswith(
            "Once upon a time, there was a little girl named Lily. She loved to play outside in "
            "the park. One day, she saw a big, red ball."
        )
    )


def test_embedded_model_writes_english(tmp_path: Path) -> None:
    model = convert(
        Job(
            source=EMBEDDED / "novels-6m",
            directory=tmp_path,
            name="novels",
            types=("Q8_0",),
            num_threads=2,
        )
    )[0].path
    text = llama_tools.continue_text(model, "It was a cold evening, and the old man", 40)
    words = text.split()
    common = {
        "the",
        "and",
        "of",
        "to",
        "a",
        "in",
        "was",
        "his",
        "he",
        "had",
        "with",
        "that",
        "it",
        "as",
        "for",
    }
    assert len(words) >= 20
    assert sum(word.strip(",.;") in common for word in words) >= len(words) // 4, text


def fields_and_factors(source: Path, out: Path) -> GGUFReader:
    return GGUFReader(
        convert(Job(source=source, directory=out, name="rope", types=("F32",), num_threads=1))[
            0
        ].path
    )


def test_llama3_rope_scaling_becomes_a_tensor_of_divisors(tmp_path: Path) -> None:
    """Llama 3.1's own numbers at head size 128, by transformers' formula evaluated here
    in float64.
    """
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    shape = Shape(hidden=256, num_heads=2, extra={"rope_parameters": rope, "rope_theta": None})
    reader = fields_and_factors(write_checkpoint(tmp_path / "source", shape), tmp_path)
    factors = next(tensor.data for tensor in reader.tensors if tensor.name == "rope_freqs.weight")
    expected = []
    for pair in range(64):
        wavelength = 2 * np.pi * 500000.0 ** (2 * pair / 128)
        smooth = (8192 / wavelength - 1.0) / 3.0
        expected.append(
            1.0 if smooth > 1 else 8.0 if smooth < 0 else 1 / ((1 - smooth) / 8.0 + smooth)
        )
    np.testing.assert_allclose(factors, expected, rtol=2e-6)
    assert (factors[0], factors[-1]) == (1.0, 8.0)
    assert sum(1 < factor < 8 for factor in factors) == 6
    assert reader.fields["llama.rope.freq_base"].contents() == 500000.0
    assert "llama.rope.scaling.type" not in reader.fields


@pytest.mark.parametrize("key", ["type", "rope_type"])
def test_linear_rope_scaling_in_the_older_layout(tmp_path: Path, key: str) -> None:
    shape = Shape(extra={"rope_scaling": {key: "linear", "factor": 4.0}})
    reader = fields_and_factors(write_checkpoint(tmp_path / "source", shape), tmp_path)
    assert reader.fields["llama.rope.scaling.type"].contents() == "linear"
    assert reader.fields["llama.rope.scaling.factor"].contents() == 4.0
