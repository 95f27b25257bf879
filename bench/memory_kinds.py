"""Models of random weights, one for each kind of memory whose sequences share no cells:
small ones for tests, larger ones for benchmarks. Knows no text and no benchmark.

Run: python -m bench.memory_kinds VOCABULARY.gguf FOLDER
Writes one of each kind into FOLDER, of 50 to 100 million weights, with the vocabulary of
another file; and two with heads that draft, of 8 blocks and of 24.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter

from bench.random_weights import Shape, Shapes, Weights, num_vocab, of_blocks, write_random

_KERNEL = 4  # tokens of a short convolution
_MAMBA_STATE = 8  # values for each of the inner width's


@dataclass(frozen=True, kw_only=True)
class KindShape:
    """Dimensions in values."""

    width: int = 64
    head: int = 32
    heads: int = 2
    kv_heads: int = 1
    ff: int = 96
    blocks: int = 4
    state: int = 32  # of a head of a delta net
    state_heads: int = 2
    window: int = 48  # tokens, where there is one
    ctx: int = 2048
    dtype: type[np.floating[npt.NBitBase]] = np.float32  # of matrices


TINY = KindShape()
SMALL = KindShape(
    width=768,
    head=64,
    heads=12,
    kv_heads=4,
    ff=2048,
    blocks=8,
    state=128,
    state_heads=8,
    window=512,
    ctx=16384,
    dtype=np.float16,
)


def write_recurrent(vocabulary: Path, target: Path, shape: KindShape = TINY) -> Path:
    """As Mamba: a state in each block, and no attention."""
    inner, rank = 2 * shape.width, max(shape.width // 16, 1)
    each = {
        "attn_norm.weight": (shape.width,),
        "ssm_in.weight": (2 * inner, shape.width),
        "ssm_conv1d.weight": (inner, _KERNEL),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (rank + 2 * _MAMBA_STATE, inner),
        "ssm_dt.weight": (inner, rank),
        "ssm_dt.bias": (inner,),
        "ssm_a": (inner, _MAMBA_STATE),
        "ssm_d": (inner,),
        "ssm_out.weight": (shape.width, inner),
    }
    writer = _Writer(target, "mamba", shape)
    writer.gguf.add_feed_forward_length(0)
    writer.gguf.add_head_count(0)
    writer.gguf.add_ssm_conv_kernel(_KERNEL)
    writer.gguf.add_ssm_inner_size(inner)
    writer.gguf.add_ssm_state_size(_MAMBA_STATE)
    writer.gguf.add_ssm_time_step_rank(rank)
    return writer.write(vocabulary, [each] * shape.blocks)


def write_scalar_recurrent(vocabulary: Path, target: Path, shape: KindShape = TINY) -> Path:
    """As Mamba 2 (and the states of Granite 4, Falcon-H1, Nemotron-H): each head decays by
    one number.
    """
    inner, heads = 2 * shape.width, 2 * shape.state_heads
    mixed = inner + 2 * shape.state  # of one group
    each = {
        "attn_norm.weight": (shape.width,),
        "ssm_in.weight": (inner + mixed + heads, shape.width),
        "ssm_conv1d.weight": (mixed, _KERNEL),
        "ssm_conv1d.bias": (mixed,),
        "ssm_dt.bias": (heads,),
        "ssm_a": (heads, 1),
        "ssm_d": (heads, 1),
        "ssm_norm.weight": (1, inner),
        "ssm_out.weight": (shape.width, inner),
    }
    writer = _Writer(target, "mamba2", shape)
    writer.gguf.add_feed_forward_length(0)
    writer.gguf.add_head_count(0)
    writer.gguf.add_ssm_conv_kernel(_KERNEL)
    writer.gguf.add_ssm_inner_size(inner)
    writer.gguf.add_ssm_state_size(shape.state)
    writer.gguf.add_ssm_time_step_rank(heads)
    writer.gguf.add_ssm_group_count(1)
    return writer.write(vocabulary, [each] * shape.blocks)


def write_delta_net(vocabulary: Path, target: Path, shape: KindShape = TINY) -> Path:
    """As Qwen3.5: three blocks of gated delta nets for each one of attention."""
    return _write_delta_net(vocabulary, target, shape, has_heads=False)


def write_with_heads(vocabulary: Path, target: Path, shape: KindShape = TINY) -> Path:
    """The same with a block behind them that predicts a token more."""
    return _write_delta_net(vocabulary, target, shape, has_heads=True)


def _write_delta_net(vocabulary: Path, target: Path, shape: KindShape, *, has_heads: bool) -> Path:
    num_key, num_value = shape.state, shape.state * shape.state_heads
    common = {
        "attn_norm.weight": (shape.width,),
        "post_attention_norm.weight": (shape.width,),
        **_feed_forward(shape),
    }
    net = {
        "attn_qkv.weight": (2 * num_key + num_value, shape.width),
        "attn_gate.weight": (num_value, shape.width),
        "ssm_conv1d.weight": (2 * num_key + num_value, _KERNEL),
        "ssm_dt.bias": (shape.state_heads,),
        "ssm_a": (shape.state_heads,),
        "ssm_beta.weight": (shape.state_heads, shape.width),
        "ssm_alpha.weight": (shape.state_heads, shape.width),
        "ssm_norm.weight": (shape.state,),
        "ssm_out.weight": (shape.width, num_value),
    }
    attention = _attention(shape, queries=2)
    writer = _Writer(target, "qwen35", shape, num_heads=int(has_heads))
    writer.describe_attention()
    writer.gguf.add_head_count_kv(shape.kv_heads)
    writer.gguf.add_rope_dimension_sections(
        [shape.head // 8, shape.head // 16, shape.head // 16, 0]
    )
    writer.gguf.add_ssm_conv_kernel(_KERNEL)
    writer.gguf.add_ssm_inner_size(num_value)
    writer.gguf.add_ssm_state_size(shape.state)
    writer.gguf.add_ssm_time_step_rank(shape.state_heads)
    writer.gguf.add_ssm_group_count(1)
    blocks = [common | (attention if at % 4 == 3 else net) for at in range(shape.blocks)]
    if has_heads:
        heads = {
            "nextn.eh_proj.weight": (shape.width, 2 * shape.width),
            "nextn.enorm.weight": (shape.width,),
            "nextn.hnorm.weight": (shape.width,),
            "nextn.shared_head_norm.weight": (shape.width,),
        }
        writer.gguf.add_nextn_predict_layers(1)
        blocks.append(common | attention | heads)
    return writer.write(vocabulary, blocks)


def write_convolution(vocabulary: Path, target: Path, shape: KindShape = TINY) -> Path:
    """As LFM2: short convolutions and attention by turns."""
    return _write_convolution(vocabulary, target, shape, has_window=False)


def write_convolution_and_window(vocabulary: Path, target: Path, shape: KindShape = TINY) -> Path:
    """The same, with attention over a sliding window."""
    return _write_convolution(vocabulary, target, shape, has_window=True)


def write_window(vocabulary: Path, target: Path, shape: KindShape = TINY) -> Path:
    """As Gemma 3: a sliding window in all blocks but each sixth, or the last one."""
    common = {
        "attn_norm.weight": (shape.width,),
        "post_attention_norm.weight": (shape.width,),
        "ffn_norm.weight": (shape.width,),
        "post_ffw_norm.weight": (shape.width,),
        **_feed_forward(shape),
        **_attention(shape, queries=1),
    }
    writer = _Writer(target, "gemma3", shape)
    writer.describe_attention()
    writer.gguf.add_head_count_kv(shape.kv_heads)
    writer.gguf.add_sliding_window(shape.window)
    writer.gguf.add_uint32("gemma3.attention.sliding_window_pattern", min(shape.blocks, 6))
    return writer.write(vocabulary, [common] * shape.blocks)


Write = Callable[[Path, Path, KindShape], Path]
KINDS: dict[str, Write] = {
    "recurrent": write_recurrent,
    "delta-net": write_delta_net,
    "convolution": write_convolution,
    "convolution-and-window": write_convolution_and_window,
    "window": write_window,
}


def _write_convolution(
    vocabulary: Path, target: Path, shape: KindShape, *, has_window: bool
) -> Path:
    common = {
        "attn_norm.weight": (shape.width,),
        "ffn_norm.weight": (shape.width,),
        **_feed_forward(shape),
    }
    convolution = {
        "shortconv.conv.weight": (shape.width, _KERNEL),
        "shortconv.in_proj.weight": (3 * shape.width, shape.width),
        "shortconv.out_proj.weight": (shape.width, shape.width),
    }
    attention = _attention(shape, queries=1)
    writer = _Writer(target, "lfm2", shape, norm="token_embd_norm")
    writer.describe_attention()
    writer.gguf.add_head_count_kv([at % 2 * shape.kv_heads for at in range(shape.blocks)])
    writer.gguf.add_shortconv_l_cache(_KERNEL)
    if has_window:
        writer.gguf.add_sliding_window(shape.window)
    blocks = [common | (attention if at % 2 else convolution) for at in range(shape.blocks)]
    return writer.write(vocabulary, blocks)


def _attention(shape: KindShape, queries: int) -> Shapes:
    """`queries`: rows for each, two where half of them are gates."""
    kv_width, width = shape.kv_heads * shape.head, shape.heads * shape.head
    return {
        "attn_q.weight": (queries * width, shape.width),
        "attn_k.weight": (kv_width, shape.width),
        "attn_v.weight": (kv_width, shape.width),
        "attn_output.weight": (shape.width, width),
        "attn_q_norm.weight": (shape.head,),
        "attn_k_norm.weight": (shape.head,),
    }


def _feed_forward(shape: KindShape) -> Shapes:
    return {
        "ffn_gate.weight": (shape.ff, shape.width),
        "ffn_up.weight": (shape.ff, shape.width),
        "ffn_down.weight": (shape.width, shape.ff),
    }


class _Writer:
    """One file."""

    def __init__(
        self,
        target: Path,
        architecture: str,
        shape: KindShape,
        norm: str = "output_norm",
        num_heads: int = 0,
    ) -> None:
        self._target = target
        self._shape = shape
        self._norm = norm
        self.gguf = GGUFWriter(target, architecture)
        self.gguf.add_context_length(shape.ctx)
        self.gguf.add_embedding_length(shape.width)
        self.gguf.add_block_count(shape.blocks + num_heads)
        self.gguf.add_layer_norm_rms_eps(1e-5)

    def describe_attention(self) -> None:
        """All but how many heads each block has for keys."""
        shape = self._shape
        self.gguf.add_feed_forward_length(shape.ff)
        self.gguf.add_head_count(shape.heads)
        self.gguf.add_key_length(shape.head)
        self.gguf.add_value_length(shape.head)
        self.gguf.add_rope_freq_base(10000.0)
        self.gguf.add_rope_dimension_count(shape.head // 2)

    def write(self, vocabulary: Path, blocks: list[Shapes]) -> Path:
        """Returns the file's path."""
        shapes = {
            "token_embd.weight": (num_vocab(vocabulary), self._shape.width),
            f"{self._norm}.weight": (self._shape.width,),
            **of_blocks(blocks),
        }
        write_random(self.gguf, vocabulary, shapes, self._weights)
        return self._target

    def _weights(self, name: str, shape: Shape, chance: np.random.Generator) -> Weights:
        """Norms near one, what a state decays by below zero, all else around zero."""
        if "norm" in name:
            return chance.uniform(0.5, 1.5, shape).astype(np.float32)
        if name.endswith("ssm_a"):
            return chance.uniform(-0.1, -0.01, shape).astype(np.float32)
        values = chance.standard_normal(shape) / np.sqrt(self._shape.width)
        is_matrix = len(shape) > 1 and "conv" not in name
        return values.astype(self._shape.dtype if is_matrix else np.float32)


def main(argv: list[str]) -> int:
    vocabulary, folder = map(Path, argv)
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in {**KINDS, "heads": write_with_heads}.items():
        print(write(vocabulary, folder / f"{name}.gguf", SMALL))
    print(write_with_heads(vocabulary, folder / "heads-of-24.gguf", replace(SMALL, blocks=24)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
