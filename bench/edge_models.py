"""Models of random weights with per-layer embeddings: a table with a row for each token,
larger than all else. Knows no text and no benchmark.

As Gemma 4's small ones (`write_per_layer`), whose table llama.cpp reads as it is used,
and as Gemma 3n (`write_altup`), whose table it reads whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter

from bench.random_weights import Shape, Shapes, Weights, num_vocab, of_blocks, write_random

# Sizes that llama.cpp has in its sources for Gemma 3n (llama-hparams.h).
_ALTUP, _ALTUP_WIDTH, _LAUREL_RANK = 4, 256, 64


@dataclass(frozen=True, kw_only=True)
class EdgeShape:
    """Dimensions in values."""

    width: int = 64
    head: int = 32
    heads: int = 2
    kv_heads: int = 1
    ff: int = 96
    blocks: int = 4
    shared: int = 2  # of these, the last ones that keep no KV cache
    per_layer: int = 32  # of a token's own embedding in each block
    window: int = 48  # tokens
    ctx: int = 2048
    table_dtype: type[np.floating[npt.NBitBase]] = np.float16


TINY = EdgeShape()


def write_per_layer(vocabulary: Path, target: Path, shape: EdgeShape = TINY) -> Path:
    """As Gemma 4 E2B: window and whole context by turns, each with tokens' own embeddings."""
    writer = _Writer(target, "gemma4", shape)
    gguf, has_window = writer.gguf, [at % 2 == 0 for at in range(shape.blocks)]
    gguf.add_array("gemma4.attention.sliding_window_pattern", has_window)
    gguf.add_uint32("gemma4.attention.shared_kv_layers", shape.shared)
    gguf.add_uint32("gemma4.embedding_length_per_layer_input", shape.per_layer)
    gguf.add_uint32("gemma4.attention.key_length_swa", shape.head)
    gguf.add_uint32("gemma4.attention.value_length_swa", shape.head)
    gguf.add_uint32("gemma4.rope.dimension_count_swa", shape.head)
    gguf.add_float32("gemma4.rope.freq_base_swa", 10000.0)
    block = _block(shape, shape.per_layer)
    table = {"per_layer_token_embd.weight": (num_vocab(vocabulary), shape.per_layer)}
    return writer.write(
        vocabulary,
        [block] * shape.blocks,
        {
            **_widened(table, shape.blocks),
            "per_layer_model_proj.weight": (shape.per_layer * shape.blocks, shape.width),
            "per_layer_proj_norm.weight": (shape.per_layer,),
            "rope_freqs.weight": (shape.head // 2,),
        },
    )


def write_altup(vocabulary: Path, target: Path, shape: EdgeShape = TINY) -> Path:
    """As Gemma 3n E2B: four streams of which each block computes one."""
    writer = _Writer(target, "gemma3n", shape)
    width = shape.width
    block = _block(shape, _ALTUP_WIDTH) | {
        "altup_correct_coef.weight": (_ALTUP, _ALTUP),
        "altup_correct_scale.weight": (width,),
        "altup_predict_coef.weight": (_ALTUP * _ALTUP, _ALTUP),
        "altup_router.weight": (_ALTUP, width),
        "altup_router_norm.weight": (width,),
        "laurel_l.weight": (_LAUREL_RANK, width),
        "laurel_r.weight": (width, _LAUREL_RANK),
        "laurel_post_norm.weight": (width,),
    }
    table = {"per_layer_token_embd.weight": (num_vocab(vocabulary), _ALTUP_WIDTH)}
    return writer.write(
        vocabulary,
        [block] * shape.blocks,
        {
            **_widened(table, shape.blocks),
            "per_layer_model_proj.weight": (_ALTUP_WIDTH * shape.blocks, width),
            "per_layer_proj_norm.weight": (_ALTUP_WIDTH,),
            "altup_proj.weight": (_ALTUP - 1, width, width),
            "altup_unembd_proj.weight": (_ALTUP - 1, width, width),
        },
    )


def _widened(table: Shapes, times: int) -> Shapes:
    """A row has one embedding for each block."""
    return {name: (rows, width * times) for name, (rows, width) in table.items()}


def _block(shape: EdgeShape, per_layer: int) -> Shapes:
    kv_width, width = shape.kv_heads * shape.head, shape.heads * shape.head
    norms = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm", "post_norm")
    return {
        "attn_q.weight": (width, shape.width),
        "attn_k.weight": (kv_width, shape.width),
        "attn_v.weight": (kv_width, shape.width),
        "attn_output.weight": (shape.width, width),
        "attn_q_norm.weight": (shape.head,),
        "attn_k_norm.weight": (shape.head,),
        "ffn_gate.weight": (shape.ff, shape.width),
        "ffn_up.weight": (shape.ff, shape.width),
        "ffn_down.weight": (shape.width, shape.ff),
        "inp_gate.weight": (per_layer, shape.width),
        "proj.weight": (shape.width, per_layer),
        **{f"{norm}.weight": (shape.width,) for norm in norms},
    }


class _Writer:
    """One file."""

    def __init__(self, target: Path, architecture: str, shape: EdgeShape) -> None:
        self._target = target
        self._shape = shape
        self.gguf = GGUFWriter(target, architecture)
        self.gguf.add_context_length(shape.ctx)
        self.gguf.add_embedding_length(shape.width)
        self.gguf.add_block_count(shape.blocks)
        self.gguf.add_feed_forward_length(shape.ff)
        self.gguf.add_head_count(shape.heads)
        self.gguf.add_head_count_kv(shape.kv_heads)
        self.gguf.add_key_length(shape.head)
        self.gguf.add_value_length(shape.head)
        self.gguf.add_layer_norm_rms_eps(1e-6)
        self.gguf.add_rope_freq_base(10000.0)
        self.gguf.add_rope_dimension_count(shape.head)
        self.gguf.add_sliding_window(shape.window)

    def write(self, vocabulary: Path, blocks: list[Shapes], others: Shapes) -> Path:
        """Returns the file's path."""
        shapes = {
            "token_embd.weight": (num_vocab(vocabulary), self._shape.width),
            "output_norm.weight": (self._shape.width,),
            **others,
            **of_blocks(blocks),
        }
        write_random(self.gguf, vocabulary, shapes, self._weights)
        return self._target

    def _weights(self, name: str, shape: Shape, chance: np.random.Generator) -> Weights:
        """Norms near one, all else around zero."""
        if "norm" in name or "scale" in name or name == "rope_freqs.weight":
            return chance.uniform(0.5, 1.5, shape).astype(np.float32)
        values = chance.standard_normal(shape, np.float32) / np.sqrt(self._shape.width)
        return values.astype(self._shape.table_dtype if "token_embd" in name else np.float32)
