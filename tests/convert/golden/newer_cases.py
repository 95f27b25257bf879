"""The cases of families that hold their tensors otherwise than llama.cpp wants them, or
whose layers differ among themselves; with what is particular to their best-known releases.

Copies of the releases' config.json in public repositories confirmed, in November 2026, what is
said of OLMo 3, Gemma 4 E2B, Qwen 3.6, ERNIE 4.5 21B, GLM-4.5-Air, Hunyuan, EXAONE 4.0 and Ministral
3. The rest is from model cards, reports and other programs' tests.
"""

from __future__ import annotations

from typing import Any

import torch
from case import Case, rewrite, yarn

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


def _as_minicpm(config: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if "multiplier" not in key}
    kept.pop("logits_scaling")
    return {
        **kept,
        "architectures": ["MiniCPMForCausalLM"],
        "model_type": "minicpm",
        "scale_emb": 12,
        "scale_depth": 1.4,
        "dim_model_base": 16,
    }


def _bare_gpt2(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    bare = {
        name.removeprefix("transformer."): tensor
        for name, tensor in tensors.items()
        if name != "lm_head.weight"
    }
    return {**bare, "h.0.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.bfloat16)}


def _as_modern_bert(config: dict[str, Any]) -> dict[str, Any]:
    """The layout before transformers 5."""
    rope = config.pop("rope_parameters")
    config.pop("layer_types")
    return {
        **config,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": rope["full_attention"]["rope_theta"],
        "local_rope_theta": rope["sliding_attention"]["rope_theta"],
    }


def _as_pythia(config: dict[str, Any]) -> dict[str, Any]:
    config.pop("rope_parameters")
    return {**config, "rotary_pct": 0.25, "rotary_emb_base": 10000}


NEWER: dict[str, Case] = {
    "modern_bert": Case(
        "ModernBertModel",
        {
            "num_hidden_layers": 4,
            "intermediate_size": 64,
            "local_attention": 16,
            "bos_token_id": 257,
            "cls_token_id": 257,
            "sep_token_id": 257,
        },
        publish=rewrite(_as_modern_bert),
        release="gte-modernbert-base: global_attn_every_n_layers 3, local_attention 128, "
        "global_rope_theta 160000, local_rope_theta 10000; no norm before the first attention.",
    ),
    "xlm_roberta": Case(
        "XLMRobertaForSequenceClassification",
        {
            "num_hidden_layers": 2,
            "max_position_embeddings": 66,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "num_labels": 1,
        },
        dtype=torch.bfloat16,
        release="bge-reranker-v2-m3: one label (id2label has LABEL_0 alone), classifier.dense and "
        "classifier.out_proj, names below roberta., 8194 positions of which the first two are "
        "padding's, one type of tokens; Unigram of 250,002 tokens whose last is <mask>.",
    ),
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
    "gpt_oss": Case(
        "GptOssForCausalLM",
        {
            "num_hidden_layers": 2,
            "head_dim": 32,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "intermediate_size": 32,
            "sliding_window": 16,
            # published: factor 32 of 4096, borders not rounded, which llama.cpp does
            "rope_parameters": {**yarn(4.0, 32), "beta_fast": 32.0, "beta_slow": 1.0},
        },
        release="gpt-oss-20b: experts as MXFP4 (blocks and scales), others BF16; window 128 in "
        "every other layer, rope_scaling with truncate = false; eos 200002 (<|return|>), "
        "generation_config also 199999 and 200012.",
    ),
    "granite": Case(
        "GraniteForCausalLM",
        {
            "tie_word_embeddings": True,
            "embedding_multiplier": 12.0,
            "logits_scaling": 8.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.1,
        },
        older_layout=True,
        release="granite-3.3-2b-instruct: tied, multipliers 12, 8, 0.22 and 0.015625.",
    ),
    "minicpm": Case(
        # the same graph, said in other words: transformers has no class of MiniCPM's own
        "GraniteForCausalLM",
        {
            "embedding_multiplier": 12.0,
            "logits_scaling": 64 / 16,
            "residual_multiplier": 1.4 / 3**0.5,
            "attention_multiplier": 1 / 16**0.5,
        },
        publish=rewrite(_as_minicpm),
        release="MiniCPM-2B-sft-bf16: scale_emb 12, scale_depth 1.4, dim_model_base 256.",
    ),
    "granite_moe": Case(
        "GraniteMoeSharedForCausalLM",
        {
            "num_hidden_layers": 2,
            "tie_word_embeddings": True,
            "intermediate_size": 32,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "shared_intermediate_size": 48,
            "embedding_multiplier": 12.0,
            "logits_scaling": 6.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.1,
        },
        release="granite-3.1-3b-a800m-instruct: 40 experts of which 8 work, without a shared one.",
    ),
    "olmo2": Case(
        "Olmo2ForCausalLM",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
        older_layout=True,
        release="OLMo-2-1124-7B-Instruct: untied, theta 500000, eps 1e-6.",
    ),
    "olmo3": Case(
        "Olmo3ForCausalLM",
        {
            "num_hidden_layers": 4,
            "sliding_window": 16,
            "rope_parameters": {
                "full_attention": {**yarn(4.0, 32), "attention_factor": 1.3},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0},
            },
        },
        release="Olmo-3-7B-Instruct: window 4096 in three of four layers, yarn (factor 8 of 8192, "
        "attention_factor 1.2079) in the others.",
    ),
    "exaone4": Case(
        "Exaone4ForCausalLM",
        {
            "tie_word_embeddings": True,
            "sliding_window": None,
            "layer_types": ["full_attention"] * 3,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 16.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
        release="EXAONE-4.0-1.2B: no window, tied, llama3 scaling (factor 16 of 8192).",
    ),
    "exaone4_sliding": Case(
        "Exaone4ForCausalLM",
        {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "num_hidden_layers": 64,
            "sliding_window": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        },
        release="EXAONE-4.0-32B: 64 layers, sliding_window_pattern 'LLLG', window 4096; the "
        "layers without a window are not rotated.",
    ),
    "glm4": Case(
        "Glm4ForCausalLM",
        {
            "head_dim": 16,
            "attention_bias": True,
            "partial_rotary_factor": 0.5,
        },
        older_layout=True,
        release="GLM-4-9B-0414: head size 128 half of which rotates, eos [151329, 151336, 151338].",
    ),
    "seed_oss": Case(
        "SeedOssForCausalLM",
        {"head_dim": 32, "attention_bias": True},
        release="Seed-OSS-36B-Instruct: 80 heads of size 128 over a hidden size of 5120, "
        "theta 1e7, biases of query, key and value only.",
    ),
    "ernie4_5": Case(
        "Ernie4_5ForCausalLM",
        {"head_dim": 32, "tie_word_embeddings": True},
        release="ERNIE-4.5-0.3B-PT: tied, head size 128, theta 500000, tokenizer.model.",
    ),
    "ministral3": Case(
        "Ministral3ForCausalLM",
        {
            "head_dim": 32,
            "num_hidden_layers": 2,
            # queries grow at every 16th token; published: factor 16 of 16384
            "rope_parameters": {
                **yarn(16.0, 16),
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.1,
            },
        },
        release="Ministral-3-14B-Instruct-2512: inside Mistral3ForConditionalGeneration, FP8 per "
        "tensor with BF16 beside it; yarn of factor 16 of 16384 tokens, both mscale 1.0, "
        "llama_4_scaling_beta 0.1, head size 128 over a hidden size of 5120; tekken tokenizer.",
    ),
    "hunyuan": Case(
        "HunYuanDenseV1ForCausalLM",
        {
            "head_dim": 32,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "dynamic",
                "rope_theta": 10000.0,
                "factor": 1.0,
                "alpha": 1000.0,
            },
        },
        release="Hunyuan-1.8B-Instruct: tied, rope 'dynamic' with alpha 1000.",
    ),
    "command_r": Case(
        "CohereForCausalLM",
        {"logit_scale": 0.0625, "tie_word_embeddings": True},
        older_layout=True,
        release="c4ai-command-r-v01: theta 8e6, logit_scale 0.0625, model_max_length 131072.",
    ),
    "cohere2": Case(
        "Cohere2ForCausalLM",
        {
            "num_hidden_layers": 4,
            "logit_scale": 0.25,
            "sliding_window": 16,
            "tie_word_embeddings": True,
        },
        release="c4ai-command-r7b-12-2024: window 4096 in three of four layers; the others are "
        "not rotated; logit_scale 0.25.",
    ),
    "stablelm": Case(
        "StableLmForCausalLM",
        {"use_qkv_bias": True, "partial_rotary_factor": 0.25},
        older_layout=True,
        release="stablelm-2-1_6b: biases of query, key and value, a quarter of each head rotates.",
    ),
    "stablelm_12b": Case(
        "StableLmForCausalLM",
        {"qk_layernorm": True, "use_parallel_residual": True, "partial_rotary_factor": 0.25},
        release="stablelm-2-12b: norms of each head's own, attention beside the feed-forward.",
    ),
    "starcoder2": Case(
        "Starcoder2ForCausalLM",
        {"sliding_window": 64, "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": True},
        older_layout=True,
        release="starcoder2-3b: window 4096, theta 999999.4420358813, eos 0.",
    ),
    "gpt2": Case(
        "GPT2LMHeadModel",
        {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 512, "n_inner": None},
        publish=rewrite(dict, _bare_gpt2),
        release="openai-community/gpt2: names without 'transformer.', masks saved along "
        "(h.*.attn.bias), n_inner null.",
    ),
    "gpt_neox": Case(
        "GPTNeoXForCausalLM",
        {
            "num_hidden_layers": 2,
            "use_parallel_residual": True,
            "rotary_pct": 0.25,
            "hidden_act": "gelu",
        },
        publish=rewrite(_as_pythia),
        release="pythia-160m: rotary_pct 0.25, rotary_emb_base 10000, parallel residual, weights "
        "F16 with buffers.",
    ),
}
