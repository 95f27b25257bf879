"""What transformers' classes take for keys that a config.json leaves out or leaves null."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from convert.architectures import find_family
from convert.architectures.family import Hyperparameters
from convert.config import Config
from convert.tensors import Computed
from tests.convert.checkpoints import GOLDEN, GOLDEN_NAMES, NEWER_NAMES, golden_folder

NAMES = frozenset({"model.embed_tokens.weight", "lm_head.weight"})
# written by golden/make_rope_defaults.py
ROPE = json.loads((GOLDEN / "rope_defaults.json").read_text())
ROPE_KEYS = (
    *("rope_parameters", "rope_scaling", "rope_theta", "rope_local_base_freq", "rotary_emb_base"),
    *("partial_rotary_factor", "rotary_pct", "global_rope_theta", "local_rope_theta"),
)
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}


def golden(name: str) -> dict[str, Any]:
    """A golden checkpoint's config, or that of the part that writes."""
    values: dict[str, Any] = json.loads((golden_folder(name) / "config.json").read_text())
    text = values.get("text_config")
    return values if text is None else {**text, "architectures": None}


def read(values: dict[str, Any]) -> Hyperparameters:
    config = Config("config.json", values)
    return find_family(config).read_config(config, NAMES)


def computed(hyper: Hyperparameters) -> dict[str, list[float]]:
    return {
        tensor.name: np.asarray(tensor.source.values).tolist()
        for tensor in hyper.computed
        if isinstance(tensor.source, Computed)
    }


ROTATING = [name for name in (*GOLDEN_NAMES, *NEWER_NAMES) if golden(name)["model_type"] in ROPE]


@pytest.mark.parametrize("name", ROTATING)
def test_a_rotation_that_is_not_described_is_that_of_the_class(name: str) -> None:
    values = golden(name)
    without = {key: value for key, value in values.items() if key not in ROPE_KEYS}
    said = read({**without, "rope_parameters": ROPE[values["model_type"]]})
    left_out = read(without)
    assert left_out.fields == said.fields
    assert left_out.notes == said.notes
    assert computed(left_out) == computed(said)


def test_llama_4_scales_the_rotation_of_its_class() -> None:
    without = {key: value for key, value in golden("llama4").items() if key not in ROPE_KEYS}
    said = computed(read({**without, "rope_scaling": {**LLAMA3, "rope_theta": 500000.0}}))
    assert computed(read({**without, "rope_scaling": LLAMA3})) == said
    assert said["rope_freqs.weight"]


@pytest.mark.parametrize(("given", "expected"), [({}, True), ({"norm_topk_prob": None}, False)])
def test_null_is_off_and_what_is_left_out_as_the_class_has_it(
    given: dict[str, Any], expected: bool
) -> None:
    values = golden("deepseek_v3")
    values.pop("norm_topk_prob", None)
    fields = {field.key: field.value for field in read({**values, **given}).fields}
    assert fields["deepseek2.expert_weights_norm"] is expected


def test_groups_of_experts_that_are_left_out_are_those_of_the_class() -> None:
    values = {**golden("deepseek_v3"), "n_routed_experts": 16, "n_group": None, "topk_group": None}
    fields = {field.key: field.value for field in read(values).fields}
    assert fields["deepseek2.expert_group_count"] == 8
    assert fields["deepseek2.expert_group_used_count"] == 4


def test_a_null_head_dim_leaves_it_to_the_width() -> None:
    values = golden("ernie4_5")
    width = values["hidden_size"] // values["num_attention_heads"]
    assert read({**values, "head_dim": None}).head_dim == width
    values.pop("head_dim", None)
    assert read(values).head_dim == 128
