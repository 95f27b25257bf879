"""More cases of the newer families: mixtures of experts after dense layers, and layers with
a state or a convolution beside attention.
"""

from __future__ import annotations

from typing import Any

from case import Case, yarn

_ROUTED: dict[str, Any] = {
    "num_hidden_layers": 2,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "norm_topk_prob": True,
}
_LATENT: dict[str, Any] = {
    **_ROUTED,
    "num_key_value_heads": 4,
    "kv_lora_rank": 32,
    "q_lora_rank": 48,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
}
_GRANITE: dict[str, Any] = {
    "num_hidden_layers": 3,
    "layer_types": ["mamba", "attention", "mamba"],
    "tie_word_embeddings": True,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "shared_intermediate_size": 64,
    "embedding_multiplier": 12.0,
    "logits_scaling": 3.0,
    "residual_multiplier": 0.246,
    "attention_multiplier": 0.1,
    "position_embedding_type": "nope",
}

MIXTURES: dict[str, Case] = {
    "lfm2": Case(
        "Lfm2ForCausalLM",
        {
            "layer_types": ["conv", "full_attention", "conv"],
            "conv_L_cache": 3,
            "block_multiple_of": 32,
            "tie_word_embeddings": True,
        },
        release="LFM2-1.2B: layer_types, intermediate_size before it was adjusted "
        "(block_auto_adjust_ff_dim), tied, theta 1e6.",
    ),
    "lfm2_moe": Case(
        "Lfm2MoeForCausalLM",
        {
            "layer_types": ["conv", "full_attention", "conv"],
            "num_dense_layers": 1,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "tie_word_embeddings": True,
        },
        release="LFM2-8B-A1B: 2 dense layers, 32 experts of which 4 work, a bias of the choice.",
    ),
    "glm4_moe": Case(
        "Glm4MoeForCausalLM",
        {
            **_ROUTED,
            "head_dim": 32,
            "attention_bias": True,
            "use_qk_norm": True,
            "partial_rotary_factor": 0.5,
            "routed_scaling_factor": 2.5,
        },
        release="GLM-4.5-Air: without norms of queries and keys (GLM-4.5 has them), one dense "
        "layer, a head that guesses on as the layer after the last.",
    ),
    "deepseek_v3": Case(
        "DeepseekV3ForCausalLM",
        {
            **_LATENT,
            "n_group": 2,
            "topk_group": 1,
            "routed_scaling_factor": 2.5,
            "rope_parameters": {**yarn(4.0, 32), "mscale": 1.0, "mscale_all_dim": 1.0},
        },
        release="DeepSeek-V3: 8 groups of experts of which 4 are chosen from, yarn (factor 40 of "
        "4096, both mscale 1.0); weights published as FP8, unquantized by others.",
    ),
    "deepseek_v2": Case(
        "DeepseekV2ForCausalLM",
        {
            **_LATENT,
            "num_hidden_layers": 26,
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "n_routed_experts": 2,
            "num_experts_per_tok": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "kv_lora_rank": 16,
            "q_lora_rank": None,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": False,
            "topk_method": "greedy",
            "routed_scaling_factor": 1.0,
        },
        release="DeepSeek-V2-Lite: 27 layers, no latent for queries, softmax, yarn with both "
        "mscale 0.707.",
    ),
    "granite_hybrid": Case(
        "GraniteMoeHybridForCausalLM",
        {**_GRANITE, "num_local_experts": 0, "num_experts_per_tok": 0},
        release="granite-4.0-h-350m: num_local_experts 0, so the shared network is the only one; "
        "no rotation; 48 heads of size 32, state of 128.",
    ),
    "granite_hybrid_moe": Case(
        "GraniteMoeHybridForCausalLM",
        {
            **_GRANITE,
            "num_hidden_layers": 2,
            "layer_types": ["mamba", "attention"],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "intermediate_size": 32,
        },
        release="granite-4.0-h-tiny: 64 experts of which 6 work beside the shared one.",
    ),
}
