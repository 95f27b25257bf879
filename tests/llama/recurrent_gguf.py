"""A tiny model with a recurrent state, of random weights. Knows no text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter

WIDTH, INNER, STATE, RANK, KERNEL = 32, 64, 8, 4, 4


def write_recurrent(vocabulary: Path, target: Path) -> Path:
    """A Mamba of one layer with another file's vocabulary."""
    reader = GGUFReader(vocabulary)
    writer = GGUFWriter(target, "mamba")
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_ssm_conv_kernel(KERNEL)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)
    for field in reader.fields.values():
        if field.name.startswith("tokenizer."):
            kind = field.types[0]
            inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, inner)
    num_vocab = len(reader.fields["tokenizer.ggml.tokens"].contents())
    shapes = {
        "token_embd.weight": (num_vocab, WIDTH),
        "output_norm.weight": (WIDTH,),
        "blk.0.attn_norm.weight": (WIDTH,),
        "blk.0.ssm_in.weight": (2 * INNER, WIDTH),
        "blk.0.ssm_conv1d.weight": (INNER, KERNEL),
        "blk.0.ssm_conv1d.bias": (INNER,),
        "blk.0.ssm_x.weight": (RANK + 2 * STATE, INNER),
        "blk.0.ssm_dt.weight": (INNER, RANK),
        "blk.0.ssm_dt.bias": (INNER,),
        "blk.0.ssm_a": (INNER, STATE),
        "blk.0.ssm_d": (INNER,),
        "blk.0.ssm_out.weight": (WIDTH, INNER),
    }
    chance = np.random.default_rng(1)
    for name, shape in shapes.items():
        writer.add_tensor(name, (chance.random(shape, np.float32) - 1) / 10)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
