"""Configs of the newer families that ask for what llama.cpp would compute otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.architectures import find_family
from convert.architectures.arrangement import Arranged
from convert.architectures.family import Hyperparameters
from convert.architectures.refused import REFUSED
from convert.architectures.table import supported_table
from convert.config import Config
from convert.errors import BadInput, UnsupportedModel
from convert.safetensors_file import SafetensorsFile
from tests.convert.checkpoints import golden_folder, write_safetensors

NAMES = frozenset({"model.embed_tokens.weight"})


def read(name: str, **changes: Any) -> Hyperparameters:
    values = json.loads((golden_folder(name) / "config.json").read_text())
    part = values.get("text_config", values)
    part.update(changes)
    config = Config("config.json", values)
    return find_family(config).read_config(config, NAMES)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("qwen35", {"linear_key_head_dim": 32}, "linear_key_head_dim = 32"),
        ("qwen35", {"linear_num_value_heads": 3}, "3 value heads cannot be shared out"),
        ("qwen35", {"layer_types": ["conv"] * 3}, "unsupported layer type 'conv'"),
        ("qwen3_next", {"mlp_only_layers": [0]}, r"mlp_only_layers = \[0\]"),
        ("gpt_oss", {"swiglu_limit": 5.0}, "swiglu_limit = 5.0"),
        ("granite", {"attention_bias": True}, "attention_bias = True"),
        ("olmo2", {"tie_word_embeddings": True}, "tie_word_embeddings = True"),
        (
            "exaone4",
            {"sliding_window": 16, "layer_types": None, "sliding_window_pattern": 4},
            "in no others",
        ),
        ("exaone4", {"sliding_window_pattern": "LGLG"}, "LGLG"),
        ("ernie4_5", {"use_bias": True}, "use_bias = True"),
        ("seed_oss", {"mlp_bias": True}, "mlp_bias = True"),
        ("glm4_moe", {"n_group": 2}, "n_group = 2"),
        ("deepseek_v3", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "only yarn"),
        ("deepseek_v3", {"n_group": 4}, "1 of 4 groups of 4 experts"),
        ("deepseek_v2", {"topk_method": "group_limited_greedy", "n_group": 2}, "2 groups"),
        ("deepseek_v2", {"norm_topk_prob": True}, "norm_topk_prob = true"),
        # null is off, though a key that is left out is on
        ("deepseek_v3", {"rope_interleave": None}, "rope_interleave = null"),
        ("falcon_h1", {"mamba_conv_bias": None}, "mamba_conv_bias = null"),
        ("granite_hybrid", {"mamba_conv_bias": None}, "mamba_conv_bias = null"),
        ("command_r", {"use_qk_norm": True}, "use_qk_norm = True"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("granite_hybrid", {"position_embedding_type": "rope"}, "position_embedding_type = rope"),
        ("granite_4", {"num_local_experts": 4}, "experts and no layer with a state"),
        ("lfm2", {"conv_bias": True}, "conv_bias = True"),
        ("rwkv7", {"attn": {"layers": [1], "num_heads": 2}}, "attn = "),
        ("rwkv7", {"value_dim": [128, 256]}, "value_dim = "),
        ("rwkv7", {"head_dim": 32}, "heads of 32"),
        ("gemma4_small", {"use_bidirectional_attention": "all"}, "looks back"),
        ("gemma4_small", {"num_kv_shared_layers": 4}, "num_kv_shared_layers = 4"),
        ("mamba", {"intermediate_size": 96}, "an inner size of 96"),
        ("mamba2", {"time_step_limit": [0.0, 0.1]}, "time_step_limit"),
        ("mamba2", {"use_bias": True}, "use_bias = True"),
        ("ministral3", {"rope_parameters": {"rope_type": "default"}}, "rope scaling 'default'"),
        (
            "ministral3",
            {"rope_parameters": {"rope_type": "yarn", "llama_4_scaling_beta": 0.1, "factor": 2.0}},
            "without original_max_position_embeddings",
        ),
        ("llama4", {"use_qk_norm": False}, "use_qk_norm = False and 4 experts"),
        ("llama4", {"no_rope_layers": [1, 0, 1, 0]}, r"no_rope_layers = \[1, 0, 1, 0\]"),
        ("llama4", {"attn_temperature_tuning": 0}, "attn_temperature_tuning = 0"),
        ("llama4", {"attention_chunk_size": 4096}, "attention_chunk_size = 4096"),
        ("gemma3n", {"num_kv_shared_layers": 4}, "22 layers and num_kv_shared_layers = 4"),
        ("gemma3n", {"intermediate_size": [256] * 21 + [512]}, "and they differ"),
        ("gemma3n", {"layer_types": ["full_attention"] * 22}, "every 5th layer has no window"),
        ("gemma3n", {"activation_sparsity_pattern": [0.95] * 22}, "0.95 in the first 10 layers"),
        ("gemma3n", {"activation_sparsity_pattern": [0.95]}, "not a list of 22"),
        ("gemma3n", {"final_logit_softcapping": 20.0}, "final_logit_softcapping = 20.0"),
        ("gemma3n", {"laurel_rank": 32}, "laurel_rank = 32"),
        ("jina_bert", {"feed_forward_type": "reglu"}, "feed_forward_type = reglu"),
        ("jina_bert", {"hidden_act": "relu"}, "hidden_act = relu"),
        ("jina_bert", {"num_attention_heads": 7}, "cannot be divided among 7 heads"),
    ],
)
def test_it_is_refused_with_the_reason(name: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        read(name, **changes)


@pytest.mark.parametrize("architecture", REFUSED)
def test_what_is_never_right_is_refused_by_name(architecture: str) -> None:
    config = Config("config.json", {"architectures": [architecture]})
    with pytest.raises(UnsupportedModel, match=f"{architecture} cannot be converted: "):
        find_family(config)
    assert f"| `{architecture}` | {REFUSED[architecture]} |" in supported_table()


def test_gpt_oss_says_that_its_rotation_is_rounded() -> None:
    values = json.loads((golden_folder("gpt_oss") / "config.json").read_text())
    values["rope_parameters"]["truncate"] = False
    config = Config("config.json", values)
    assert not read("gpt_oss").notes
    (note,) = find_family(config).read_config(config, NAMES).notes
    assert "truncate = false" in note


@pytest.mark.parametrize("start", [0, 3, 7])
def test_rows_are_read_in_any_order(start: int, tmp_path: Path) -> None:
    matrix = np.arange(24, dtype=np.float32).reshape(12, 2)
    write_safetensors(tmp_path / "m", {"m": matrix}, "F32")
    file = SafetensorsFile(tmp_path / "m")
    order = np.array([0, 2, 4, 6, 11, 10, 3, 4, 5, 1])
    for columns in (None, np.array([1, 0])):
        arranged = Arranged(file.tensors["m"], order, columns)
        expected = matrix[order] if columns is None else matrix[order][:, columns]
        np.testing.assert_array_equal(arranged.read_rows(start, 10), expected[start:])
    file.close()
