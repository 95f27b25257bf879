"""ModernBERT's config: windows in both layouts, and what llama.cpp would not compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from convert.errors import UnsupportedModel
from convert.pipeline import Job, convert
from tests.convert.checkpoints import change_config, golden_checkpoint

FULL, SLIDING = "full_attention", "sliding_attention"
NEWER_LAYOUT = {
    "layer_types": [FULL, SLIDING, FULL, SLIDING],
    "rope_parameters": {
        FULL: {"rope_type": "default", "rope_theta": 5000.0},
        SLIDING: {"rope_type": "default", "rope_theta": 300.0},
    },
}


def job(directory: Path, changes: dict[str, Any]) -> Job:
    source = golden_checkpoint("modern_bert", directory / "source")
    change_config(source, lambda config: config.update(changes))
    return Job(source=source, directory=directory, name="m", types=("F32",), num_threads=1)


@pytest.mark.parametrize(
    ("changes", "period", "thetas"),
    [({}, 3, (160_000.0, 10_000.0)), (NEWER_LAYOUT, 2, (5000.0, 300.0))],
)
def test_windows_and_rotations_in_both_layouts(
    changes: dict[str, Any], period: int, thetas: tuple[float, float], tmp_path: Path
) -> None:
    fields = GGUFReader(convert(job(tmp_path, changes))[0].path).fields
    keys = ("attention.sliding_window", "attention.sliding_window_pattern")
    found = [fields[f"modern-bert.{key}"].contents() for key in keys]
    assert found == [16, period]
    keys = ("rope.freq_base", "rope.freq_base_swa")
    assert tuple(fields[f"modern-bert.{key}"].contents() for key in keys) == thetas


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layer_types": [SLIDING, FULL, SLIDING, SLIDING]}, "first layer of each group"),
        ({"norm_bias": True}, "norm_bias = true"),
        ({"hidden_activation": "relu"}, "hidden_activation = relu"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type = 'yarn'"),
        ({"architectures": ["ModernBertForSequenceClassification"]}, "cannot be converted"),
    ],
)
def test_what_llama_cpp_would_not_compute_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        convert(job(tmp_path, changes))
