"""More cases of the newer families: mixtures of experts after dense layers, and layers with
a state or a convolution beside attention.
"""

from __future__ import annotations

from typing import Any

import torch
from case import Case, rewrite, yarn

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

_E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
_PACKED = ("gate_up_proj", "down_proj")


@torch.no_grad()
def _on_the_grid_of_mxfp4(model: torch.nn.Module) -> None:
    """Experts' weights become the nearest that blocks of MXFP4 hold."""
    for name, parameter in model.named_parameters():
        if name.endswith(_PACKED):
            codes, exponents = _mxfp4(parameter.transpose(1, 2))
            values = _E2M1[codes.long()] * torch.exp2(exponents.float() - 127)[..., None]
            parameter.copy_(values.flatten(-2).transpose(1, 2))


def _mxfp4(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes, shape (..., blocks, 32), and their exponents plus 127 (OCP MX, section 6.3)."""
    blocks = matrices.float().unflatten(-1, (-1, 32))
    largest = blocks.abs().amax(-1)
    exponents = torch.floor(torch.log2(largest)) - 2
    scaled = blocks / torch.exp2(exponents)[..., None]
    codes = (scaled[..., None] - _E2M1).abs().argmin(-1)
    return codes.to(torch.uint8), (exponents + 127).to(torch.uint8)


def _as_blocks(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    made: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if not name.endswith(_PACKED):
            made[name] = tensor
            continue
        codes, exponents = _mxfp4(tensor.transpose(1, 2))
        made[f"{name}_blocks"] = codes[..., ::2] | codes[..., 1::2] << 4
        made[f"{name}_scales"] = exponents
    return made


def _with_mxfp4(config: dict[str, Any]) -> dict[str, Any]:
    skipped = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"]
    quantization = {"quant_method": "mxfp4", "modules_to_not_convert": skipped}
    return {**config, "quantization_config": quantization}


_GEMMA4: dict[str, Any] = {
    "num_hidden_layers": 4,
    "head_dim": 16,
    "global_head_dim": 32,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "rope_parameters": {
        "full_attention": {
            "rope_type": "proportional",
            "rope_theta": 1e6,
            "partial_rotary_factor": 0.25,
        },
        "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
    },
}
_NO_HEADS: dict[str, Any] = {"intermediate_size": 128, "hidden_act": "silu", "num_hidden_layers": 2}


@torch.no_grad()
def _random_scalars(model: torch.nn.Module) -> None:
    for index, (name, buffer) in enumerate(model.named_buffers()):
        if name.endswith("layer_scalar"):
            buffer.fill_(0.75 + 0.125 * (index % 5))
    for name, parameter in model.named_parameters():
        if ".router." in name and parameter.dim() == 1:
            parameter.abs_().add_(0.5)
        # ggml's GELU alone would reach the tests' bound
        if name.endswith(("post_per_layer_input_norm.weight", "post_feedforward_layernorm.weight")):
            parameter.mul_(0.3)


def _as_nomic(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["NomicBertModel"],
        "model_type": "nomic_bert",
        "n_embd": config["hidden_size"],
        "n_layer": config["num_hidden_layers"],
        "n_head": config["num_attention_heads"],
        "n_inner": config["intermediate_size"],
        "n_positions": 512,
        "max_trained_positions": 256,
        "activation_function": "swiglu",
        "layer_norm_epsilon": config["layer_norm_eps"],
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "type_vocab_size": config["type_vocab_size"],
        "vocab_size": config["vocab_size"],
        "causal": False,
        "prenorm": False,
        "qkv_proj_bias": False,
    }


MIXTURES: dict[str, Case] = {
    "llama4": Case(
        "Llama4ForCausalLM",
        {
            "num_hidden_layers": 4,
            "intermediate_size": 32,
            "intermediate_size_mlp": 96,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2,
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 16.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 1.0,
                "original_max_position_embeddings": 64,
            },
        },
        release="Llama-4-Scout-17B-16E-Instruct: inside Llama4ForConditionalGeneration, experts in "
        "every layer (Maverick: every second, 128, no norms of queries and keys), one of them at "
        "work, rope llama3 whose two borders are one (factor 16 of 8192), chunks of 8192.",
    ),
    "gpt_oss_mxfp4": Case(
        "GptOssForCausalLM",
        {
            "num_hidden_layers": 2,
            "head_dim": 32,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "intermediate_size": 32,
            "sliding_window": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 150000.0},
        },
        prepare=_on_the_grid_of_mxfp4,
        publish=rewrite(_with_mxfp4, _as_blocks),
        release="gpt-oss-20b: experts as MXFP4 (blocks and scales), all else BF16.",
    ),
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
    "granite_4": Case(
        "GraniteMoeHybridForCausalLM",
        {
            **_GRANITE,
            "layer_types": ["attention"] * 3,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "position_embedding_type": "rope",
        },
        release="granite-4.0-micro: GraniteMoeHybridForCausalLM with attention alone, rotated; "
        "theta 1e7.",
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
    "gemma4_small": Case(
        "Gemma4ForCausalLM",
        {
            **_GEMMA4,
            "hidden_size_per_layer_input": 16,
            "vocab_size_per_layer_input": 272,
            "num_kv_shared_layers": 2,
            "use_double_wide_mlp": True,
            "final_logit_softcapping": 8.0,
        },
        prepare=_random_scalars,
        release="gemma-4-E2B-it: 35 layers of which 20 share, embeddings of 256 for each layer, "
        "twice as wide networks in those that share; eos [1, 106, 50].",
    ),
    "gemma4_moe": Case(
        "Gemma4ForCausalLM",
        {
            **_GEMMA4,
            "num_hidden_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"],
            "hidden_size_per_layer_input": 0,
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 32,
        },
        prepare=_random_scalars,
        release="gemma-4-26B-A4B-it: 128 experts of which 8 work beside a dense network; keys are "
        "values in the layers that see all, which have 2 heads for them.",
    ),
    "mamba": Case(
        "MambaForCausalLM",
        {**_NO_HEADS, "state_size": 16, "tie_word_embeddings": True},
        release="mamba-130m-hf: tied, 50280 tokens, names under backbone.",
    ),
    "mamba2": Case(
        "Mamba2ForCausalLM",
        {**_NO_HEADS, "num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 2},
        release="Mamba-Codestral-7B-v0.1: 8 groups, 128 heads of size 64.",
    ),
    "falcon_h1": Case(
        "FalconH1ForCausalLM",
        {
            "num_hidden_layers": 2,
            "head_dim": 32,
            "mamba_d_ssm": 96,
            "mamba_n_heads": 6,
            "mamba_d_head": 16,
            "mamba_d_state": 16,
            "mamba_n_groups": 1,
            "mamba_rms_norm": False,
            "embedding_multiplier": 5.6,
            "lm_head_multiplier": 0.25,
            "mlp_multipliers": [0.9, 0.4],
            "key_multiplier": 0.4,
            "attention_in_multiplier": 1.1,
            "attention_out_multiplier": 0.94,
            "ssm_multipliers": [0.4, 0.25, 0.18, 0.5, 0.35],
            "ssm_in_multiplier": 1.25,
            "ssm_out_multiplier": 0.24,
        },
        release="Falcon-H1-1.5B-Instruct: theta 1e11, no norm in the state, every multiplier "
        "another number.",
    ),
    "ernie4_5_moe": Case(
        "Ernie4_5_MoeForCausalLM",
        {
            "num_hidden_layers": 2,
            "tie_word_embeddings": True,
            "moe_intermediate_size": 32,
            "moe_k": 2,
            "moe_num_experts": 4,
            "moe_num_shared_experts": 2,
            "moe_layer_start_index": 1,
        },
        release="ERNIE-4.5-21B-A3B-PT: tied, one dense layer, 64 experts of which 6 work, 2 "
        "shared, a bias of the choice as a matrix of one row.",
    ),
    "nomic_bert": Case(
        "NomicBertModel",
        {"num_key_value_heads": 4, "eos_token_id": None, "pad_token_id": 0},
        publish=rewrite(_as_nomic),
        release="nomic-embed-text-v1.5: GPT-2's names in its config, 8192 positions of which "
        "2048 were trained, theta 1000, 30528 rows for 30522 tokens.",
    ),
}
