"""Which models make embeddings, and what their buffers take.

Knows no machine and makes no choice.

An input is computed in one step as a whole, so the context is the number of rows that
everything is reserved for. llama.cpp (llama-context.cpp, `output_reserve`) also
reserves a row of logits for each of them, which nobody reads.
"""

from __future__ import annotations

from appliance.fit.plan.shape import ModelShape
from appliance.store.gguf_header import GgufHeader

MAX_INPUTS = 64  # of a step: appliance/llama/embedding.py
LEAST_ROWS = 128
_MIB = 1 << 20
_ROWS_MIB = 256  # that buffers may take whatever the weights
# Without a key of their own these pool, too: they can do nothing else.
_ENCODERS = frozenset(
    (
        "bert",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "jina-bert-v2",
        "jina-bert-v3",
        "eurobert",
        "gemma-embedding",
    )
)


def embeds(header: GgufHeader) -> bool:
    """Whether the model is an encoder, or has a key for how it pools
    (`ARCH.pooling_type`, where 0 is not at all).
    """
    return (
        header.architecture in _ENCODERS
        or header.integer(f"{header.architecture}.pooling_type", 0) > 0
    )


def has_cache(header: GgufHeader) -> bool:
    """Whether llama.cpp gives it a KV cache:
    decoders that were trained to embed have one.
    """
    return header.architecture not in _ENCODERS


def graph_bytes(header: GgufHeader, shape: ModelShape, rows: int) -> int:
    """The compute buffer of a step of `rows`, with flash attention: the mask, and the
    values alive at once.

    Found by loading all-MiniLM-L6-v2 with 128 to 2,048 rows: within 2 %. `MAX_INPUTS`
    are the weights of the mean.
    """
    is_gated = any(".ffn_gate" in tensor.name for tensor in header.tensors)
    in_feed_forward = (
        shape.feed_forward * (3 if is_gated else 1) + shape.experts_out + 3 * shape.embedding
    )
    in_attention = 3 * shape.embedding + 2 * shape.attention + 2 * shape.max_kv_width
    return 2 * rows * rows + 4 * rows * (max(in_feed_forward, in_attention) + MAX_INPUTS)


def output_bytes(shape: ModelShape, rows: int) -> int:
    """Logits and embeddings of every row."""
    return 4 * rows * (shape.num_vocab + shape.embedding)


def contexts(header: GgufHeader, shape: ModelShape) -> list[int]:
    """Contexts to try, longest first, in tokens.

    The longest is the model's own, halved while its buffers would take more than its
    weights and `_ROWS_MIB`: a large vocabulary makes long inputs dear (1 MiB a token at
    250,000), and few are as long. `--ctx` asks for more.
    """
    most_bytes = max(sum(tensor.num_bytes for tensor in header.tensors), _ROWS_MIB * _MIB)
    ctx = shape.train_ctx
    while (
        ctx > LEAST_ROWS and graph_bytes(header, shape, ctx) + output_bytes(shape, ctx) > most_bytes
    ):
        ctx //= 2
    return [ctx, *(ctx >> halvings for halvings in (1, 2, 3) if ctx >> halvings >= LEAST_ROWS)]
