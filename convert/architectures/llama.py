"""The llama family: Llama 2 and 3.x and everything published in the same shape. Knows no tokenizers."""

from __future__ import annotations

import math

import numpy as np

from convert.architectures.family import Family, Hyperparameters, Rows, TensorRule
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf_header import Field, f32, string, u32
from convert.tensors import Computed, OutputTensor

_LAYER = "model.layers.{layer}."
_BLOCK = "blk.{layer}."

RULES = (
    TensorRule("token_embd.weight", "model.embed_tokens.weight", ("vocab", "hidden")),
    TensorRule("output_norm.weight", "model.norm.weight", ("hidden",)),
    TensorRule("output.weight", "lm_head.weight", ("vocab", "hidden"), needs="own output"),
    TensorRule(_BLOCK + "attn_norm.weight", _LAYER + "input_layernorm.weight", ("hidden",)),
    TensorRule(
        _BLOCK + "attn_q.weight", _LAYER + "self_attn.q_proj.weight", ("query", "hidden"), Rows.INTERLEAVE_HEADS
    ),
    TensorRule(_BLOCK + "attn_k.weight", _LAYER + "self_attn.k_proj.weight", ("key", "hidden"), Rows.INTERLEAVE_HEADS),
    TensorRule(_BLOCK + "attn_v.weight", _LAYER + "self_attn.v_proj.weight", ("key", "hidden")),
    TensorRule(_BLOCK + "attn_output.weight", _LAYER + "self_attn.o_proj.weight", ("hidden", "query")),
    TensorRule(
        _BLOCK + "attn_q.bias",
        _LAYER + "self_attn.q_proj.bias",
        ("query",),
        Rows.INTERLEAVE_HEADS,
        needs="attention bias",
    ),
    TensorRule(
        _BLOCK + "attn_k.bias",
        _LAYER + "self_attn.k_proj.bias",
        ("key",),
        Rows.INTERLEAVE_HEADS,
        needs="attention bias",
    ),
    TensorRule(_BLOCK + "attn_v.bias", _LAYER + "self_attn.v_proj.bias", ("key",), needs="attention bias"),
    TensorRule(_BLOCK + "attn_output.bias", _LAYER + "self_attn.o_proj.bias", ("hidden",), needs="attention bias"),
    TensorRule(_BLOCK + "ffn_norm.weight", _LAYER + "post_attention_layernorm.weight", ("hidden",)),
    TensorRule(_BLOCK + "ffn_gate.weight", _LAYER + "mlp.gate_proj.weight", ("feed_forward", "hidden")),
    TensorRule(_BLOCK + "ffn_up.weight", _LAYER + "mlp.up_proj.weight", ("feed_forward", "hidden")),
    TensorRule(_BLOCK + "ffn_down.weight", _LAYER + "mlp.down_proj.weight", ("hidden", "feed_forward")),
    TensorRule(_BLOCK + "ffn_gate.bias", _LAYER + "mlp.gate_proj.bias", ("feed_forward",), needs="mlp bias"),
    TensorRule(_BLOCK + "ffn_up.bias", _LAYER + "mlp.up_proj.bias", ("feed_forward",), needs="mlp bias"),
    TensorRule(_BLOCK + "ffn_down.bias", _LAYER + "mlp.down_proj.bias", ("hidden",), needs="mlp bias"),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    """The hyper-parameters of a `LlamaForCausalLM`. Raises `BadInput` for what llama.cpp would compute differently."""
    activation = config.text("hidden_act", "silu")
    if activation != "silu":
        raise UnsupportedModel(f"hidden_act is {activation}; llama.cpp's llama graph computes silu only.")
    num_heads = config.integer("num_attention_heads")
    num_kv_heads = config.integer("num_key_value_heads", num_heads)
    hidden = config.integer("hidden_size")
    head_dim = config.integer("head_dim", max(1, hidden // num_heads))
    if num_heads % num_kv_heads or head_dim % 2:
        raise DamagedCheckpoint(
            f"{config.path}: {num_heads} heads over {num_kv_heads} key/value heads of size {head_dim} make no model."
        )
    sizes = {
        "vocab": config.integer("vocab_size"),
        "hidden": hidden,
        "query": num_heads * head_dim,
        "key": num_kv_heads * head_dim,
        "feed_forward": config.integer("intermediate_size"),
    }
    num_layers = config.integer("num_hidden_layers")
    fields = (
        u32("llama.block_count", num_layers),
        u32("llama.context_length", config.integer("max_position_embeddings")),
        u32("llama.embedding_length", hidden),
        u32("llama.feed_forward_length", sizes["feed_forward"]),
        u32("llama.attention.head_count", num_heads),
        u32("llama.attention.head_count_kv", num_kv_heads),
        u32("llama.attention.key_length", head_dim),
        u32("llama.attention.value_length", head_dim),
        f32("llama.attention.layer_norm_rms_epsilon", config.number("rms_norm_eps")),
        u32("llama.vocab_size", sizes["vocab"]),
        u32("llama.rope.dimension_count", head_dim),
        f32("llama.rope.freq_base", config.rope.number("rope_theta", 10000.0)),
        *_rope_scaling_fields(config.rope),
    )
    # Configs that say nothing about tying are read by what the checkpoint holds.
    tied = config.flag("tie_word_embeddings", "lm_head.weight" not in tensor_names)
    features = {
        "own output": not tied,
        "attention bias": config.flag("attention_bias", False),
        "mlp bias": config.flag("mlp_bias", False),
    }
    return Hyperparameters(
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        sizes=sizes,
        features=frozenset(name for name, present in features.items() if present),
        fields=fields,
        computed=_rope_factors(config.rope, head_dim),
        # Buffers that old checkpoints saved along, and the copy of the embedding that some tied ones hold.
        unused=("model.layers.*.rotary_emb.inv_freq", *(("lm_head.weight",) if tied else ())),
    )


def _rope_scaling_fields(rope: Config) -> tuple[Field, ...]:
    if rope.number("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedModel("partial_rotary_factor: llama.cpp's llama graph rotates whole heads only.")
    match rope.text("rope_type"):
        case "default" | "llama3":  # llama3 scales through the tensor of factors below
            return ()
        case "linear":
            return (
                string("llama.rope.scaling.type", "linear"),
                f32("llama.rope.scaling.factor", rope.number("factor")),
            )
        case other:
            raise UnsupportedModel(f"Rope scaling {other!r} cannot be converted; known: default, linear, llama3.")


def _rope_factors(rope: Config, head_dim: int) -> tuple[OutputTensor, ...]:
    """Llama 3.1's frequency divisors, one per pair of rows.

    Source: `_compute_llama3_parameters` in transformers' modeling_rope_utils.py; ggml divides each frequency by its
    factor where transformers multiplies, and both blend linearly between the two wavelengths.
    """
    if rope.text("rope_type") != "llama3":
        return ()
    factor = rope.number("factor")
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    old_context = rope.number("original_max_position_embeddings")
    if high <= low:
        raise DamagedCheckpoint(f"{rope.path}: high_freq_factor {high} is not above low_freq_factor {low}.")
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = 1.0 / np.power(np.float32(rope.number("rope_theta", 10000.0)), exponents)
    turns = old_context * frequencies / (2 * math.pi)  # rotations within the original context
    blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
    factors = (1.0 / ((1.0 - blend) / factor + blend)).astype(np.float32)
    return (OutputTensor("rope_freqs.weight", (head_dim // 2,), Computed(factors)),)


LLAMA = Family("llama", ("LlamaForCausalLM",), RULES, read_config)
