"""Makes the golden checkpoints: tiny models of random weights, and what transformers
computes with them in float32.

    pip install -e '.[golden]'
    python tests/convert/golden/make.py [NAME ...]

Each directory beside this file (and in newer/) holds a checkpoint as its family publishes
them, without a tokenizer (the tests add one), and reference.npz: `tokens`, and for each of them
`log_probs` of the next (or for an encoder the `mean` and `cls` of its last layer; `last`
and `mean_both_ways` for decoders that make embeddings).
Weights come from a fixed seed; norms are random too, so that a norm in the wrong place
shows.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from case import Case, yarn
from mixture_cases import MIXTURES
from newer_cases import NEWER
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

GOLDEN = Path(__file__).parent
NUM_TOKENS = 48
VOCAB = 272

SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 257,
    "pad_token_id": None,
}


def ramp(first: float, last: float, count: int) -> list[float]:
    return [round(value, 4) for value in np.linspace(first, last, count).tolist()]


CASES = {
    "llama2": Case(
        "LlamaForCausalLM", {"num_key_value_heads": 4}, dtype=torch.float16, older_layout=True
    ),
    "llama3": Case(
        "LlamaForCausalLM",
        {
            "head_dim": 32,
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    "smollm2": Case(
        "LlamaForCausalLM",
        {
            "hidden_size": 48,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 100000.0, "factor": 2.0},
        },
        older_layout=True,
    ),
    "smollm3": Case(
        "SmolLM3ForCausalLM",
        {
            "num_hidden_layers": 5,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 2e6},
        },
    ),
    "mistral": Case(
        "MistralForCausalLM",
        {
            "head_dim": 32,
            "sliding_window": 64,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
        older_layout=True,
    ),
    "mixtral": Case(
        "MixtralForCausalLM",
        {
            "num_hidden_layers": 2,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "intermediate_size": 32,
        },
    ),
    "qwen2": Case(
        "Qwen2ForCausalLM",
        {
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 64,
            "max_window_layers": 1,
            "rope_parameters": yarn(4.0, 32),
        },
        older_layout=True,
        pools=True,
    ),
    "qwen2_moe": Case(
        "Qwen2MoeForCausalLM",
        {
            "num_hidden_layers": 2,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 48,
        },
    ),
    "qwen3": Case(
        "Qwen3ForCausalLM",
        {
            "head_dim": 32,
            "num_key_value_heads": 1,
            "rope_parameters": {**yarn(4.0, 32), "attention_factor": 1.3},
        },
        pools=True,
    ),
    "qwen3_moe": Case(
        "Qwen3MoeForCausalLM",
        {
            "num_hidden_layers": 2,
            "head_dim": 32,
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 32,
            "norm_topk_prob": True,
            "tie_word_embeddings": True,
        },
        older_layout=True,
    ),
    "gemma": Case(
        "GemmaForCausalLM", {"head_dim": 32, "num_key_value_heads": 1}, older_layout=True
    ),
    "gemma2": Case(
        "Gemma2ForCausalLM",
        {
            "num_hidden_layers": 4,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 16,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 8.0,
        },
        older_layout=True,
    ),
    "gemma3": Case(
        "Gemma3ForCausalLM",
        {
            "num_hidden_layers": 4,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 16,
            "layer_types": [
                "sliding_attention",
                "full_attention",
                "sliding_attention",
                "sliding_attention",
            ],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
            },
        },
    ),
    "phi3": Case(  # within the original context: the short factors
        "Phi3ForCausalLM",
        {
            "num_key_value_heads": 4,
            "original_max_position_embeddings": 256,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "long_factor": ramp(1.1, 9.0, 8),
                "short_factor": ramp(1.0, 1.9, 8),
            },
        },
        older_layout=True,
    ),
    # beyond the original context: the long factors; rotates three quarters of a head
    "phi4_mini": Case(
        "Phi3ForCausalLM",
        {
            "hidden_size": 96,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
            "original_max_position_embeddings": 32,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.75,
                "long_factor": ramp(1.1, 9.0, 12),
                "short_factor": ramp(1.0, 1.9, 12),
            },
        },
    ),
    "bert": Case("BertModel", {"max_position_embeddings": 64, "eos_token_id": None}),
    **NEWER,
    **MIXTURES,
}


def make(name: str, case: Case) -> None:
    directory = GOLDEN / ("newer" if name in {**NEWER, **MIXTURES} else "") / name
    model_class = getattr(transformers, case.model)
    seed = zlib.crc32(name.encode())
    model = model_class(model_class.config_class(**{**SMALL, **case.config}))
    randomize(model, torch.Generator().manual_seed(seed))
    if case.prepare is not None:
        case.prepare(model)
    model.to(case.dtype).save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    if case.older_layout:
        rewrite_config(directory / "config.json")
    tokens = np.random.default_rng(seed).integers(0, 256, NUM_TOKENS)
    # positions of padding are other ones
    tokens[tokens == model.config.pad_token_id] = 5
    arrays = references(directory, tokens)
    if case.pools:
        arrays |= pooled(directory, tokens)
    np.savez(directory / "reference.npz", tokens=tokens.astype(np.int32), **arrays)
    if case.publish is not None:
        case.publish(directory)


@torch.no_grad()
def randomize(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Weights large enough for attention to look somewhere: a fault in any part then
    moves the logits by far.

    ggml computes GELU through a table of float16, SiLU exactly. Where GELU is used its
    part is made small, else that error alone would reach the tests' bound.
    """
    is_gemma = model.config.model_type.startswith("gemma")
    has_gelu = str(model.config.to_dict().get("hidden_act", "gelu")).startswith("gelu")
    around_one = model.config.model_type.startswith(("qwen3_5", "qwen3_next"))
    for name, parameter in model.named_parameters():
        if "norm" in name.lower() and name.endswith("weight"):
            values = torch.rand(parameter.shape, generator=generator) + 0.5
            if is_gemma:
                is_last = "post_feedforward" in name or "post_per_layer" in name
                values = values * 0.3 if is_last else values
                values -= 0.0 if model.config.model_type.startswith("gemma4") else 1.0
            if around_one and not name.endswith("linear_attn.norm.weight"):
                values -= 1.0
        else:
            values = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                values *= 0.3
            elif "embed" in name or name == "lm_head.weight":
                values *= 0.12 if is_gemma else 0.25
            else:
                values *= 1.2 / parameter.shape[-1] ** 0.5
                values *= 0.3 if is_gemma and "down_proj" in name else 1.0
                is_back = name.endswith(
                    ("mlp.c_proj.weight", "dense_4h_to_h.weight", "mlp.Wo.weight")
                ) or (name.startswith("roberta.") and re.search(r"\d\.output\.dense\.weight", name))
                values *= 0.1 if has_gelu and is_back else 1.0
        parameter.copy_(values)


def rewrite_config(path: Path) -> None:
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["torch_dtype"] = config.pop("dtype")
    config["rope_theta"] = rope.pop("rope_theta")
    rope.pop("partial_rotary_factor", None)
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    config.pop("layer_types", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


@torch.no_grad()
def references(directory: Path, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Computed from the files as they are, widened to float32."""
    config = json.loads((directory / "config.json").read_text())
    ranks = config["architectures"][0].endswith("ForSequenceClassification")
    encoders = ("BertModel", "NomicBertModel", "ModernBertModel")
    is_encoder = ranks or config["architectures"][0] in encoders
    loader = AutoModel if is_encoder else AutoModelForCausalLM
    model = loader.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    output = model(torch.from_numpy(tokens)[None])
    if is_encoder:
        states = output.last_hidden_state[0]
        found = {"mean": states.mean(dim=0).numpy(), "cls": states[0].numpy()}
        if ranks:
            ranker = AutoModelForSequenceClassification.from_pretrained(
                directory, dtype=torch.float32, attn_implementation="eager"
            ).eval()
            found["score"] = ranker(torch.from_numpy(tokens)[None]).logits[0].numpy()
        return found
    return {"log_probs": torch.log_softmax(output.logits[0].double(), dim=-1).float().numpy()}


@torch.no_grad()
def pooled(directory: Path, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """What a decoder's last layer gives as an embedding: that of the last token, and the
    mean where every token sees all others.
    """
    model = AutoModel.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    batch = torch.from_numpy(tokens)[None]
    everything = torch.zeros(1, 1, len(tokens), len(tokens))
    both_ways = model(
        batch, attention_mask={"full_attention": everything, "sliding_attention": everything}
    )
    return {
        "last": model(batch).last_hidden_state[0, -1].numpy(),
        "mean_both_ways": both_ways.last_hidden_state[0].mean(dim=0).numpy(),
    }


if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        make(name, CASES[name])
