"""The cases of families that hold their tensors otherwise than llama.cpp wants them, or
whose layers differ among themselves; with what is particular to their best-known releases.
"""

from __future__ import annotations

from typing import Any

import torch
from case import Case, rewrite

_DELTA_NET: dict[str, Any] = {
    "num_hidden_layers": 3,
    "head_dim": 32,
    "num_key_value_heads": 1,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "partial_rotary_factor": 0.25,
}
_MROPE = {
    "rope_type": "default",
    "rope_theta": 1e7,
    "partial_rotary_factor": 0.25,
    "mrope_interleaved": True,
    "mrope_section": [2, 1, 1],
}


def fused_experts(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The experts of each layer in two tensors, where there are any."""
    fused = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    for name in tensors:
        block, found, _ = name.partition(".experts.0.gate_proj.weight")
        if not found:
            continue
        count = sum(other.startswith(f"{block}.experts.") for other in tensors) // 3
        gate, up, down = (
            torch.stack([tensors[f"{block}.experts.{i}.{part}.weight"] for i in range(count)])
            for part in ("gate_proj", "up_proj", "down_proj")
        )
        fused[f"{block}.experts.gate_up_proj"] = torch.cat([gate, up], dim=1)
        fused[f"{block}.experts.down_proj"] = down
    return fused


def _seeing(architecture: str, model_type: str) -> Any:
    """The text part inside a model that sees, with its first image weight."""

    def change_config(config: dict[str, Any]) -> dict[str, Any]:
        text = {**config, "model_type": f"{model_type}_text", "mtp_num_hidden_layers": 1}
        text.pop("architectures")
        outer = {"architectures": [architecture], "model_type": model_type}
        return {**outer, "text_config": text, "tie_word_embeddings": config["tie_word_embeddings"]}

    def change_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        renamed = {
            name.replace("model.", "model.language_model.", 1): tensor
            for name, tensor in tensors.items()
        }
        return {
            **fused_experts(renamed),
            "model.visual.patch_embed.proj.bias": torch.ones(4, dtype=torch.bfloat16),
            "mtp.fc.weight": torch.ones(4, 8, dtype=torch.bfloat16),
        }

    return rewrite(change_config, change_tensors)


NEWER: dict[str, Case] = {
    "qwen35": Case(
        "Qwen3_5ForCausalLM",
        {**_DELTA_NET, "tie_word_embeddings": True, "rope_parameters": _MROPE},
        publish=_seeing("Qwen3_5ForConditionalGeneration", "qwen3_5"),
        release="Qwen3.5-4B: the text part of a model that sees (text_config, "
        "model.language_model.*, model.visual.*), with a head that guesses on (mtp.*); head size "
        "256 of which a quarter rotates, theta 1e7, mrope_section [11, 11, 10]; tied up to 4B.",
    ),
    "qwen35_moe": Case(
        "Qwen3_5MoeForCausalLM",
        {
            **_DELTA_NET,
            "num_hidden_layers": 2,
            "layer_types": ["linear_attention", "full_attention"],
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32,
            "rope_parameters": _MROPE,
        },
        publish=_seeing("Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe"),
        release="Qwen3.5-35B-A3B: as the dense ones; experts fused in one tensor for each layer.",
    ),
    "qwen3_next": Case(
        "Qwen3NextForCausalLM",
        {
            **_DELTA_NET,
            "num_hidden_layers": 2,
            "layer_types": ["linear_attention", "full_attention"],
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32,
        },
        release="Qwen3-Next-80B-A3B: one tensor for each expert, decoder_sparse_step 1, head size "
        "256 of which a quarter rotates, 32 value heads for 16 key heads.",
    ),
}
