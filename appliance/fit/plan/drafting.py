"""What drafting takes beside the model that is drafted for: another model, or its own heads.

Knows no machine and makes no choice.
"""

from __future__ import annotations

import dataclasses

from appliance.fit.plan.footprint import SMALL_BUFFERS_BYTES, ServeSize, footprint
from appliance.fit.plan.recurrent import NO_STATE
from appliance.fit.plan.shape import ModelShape, head_tensors
from appliance.store.gguf_header import GgufHeader

DRAFT_WINDOW = 512  # tokens of each slot that a draft model sees
DRAFT_ROWS = 256  # of a draft model's step at most
DRAFT_FIRST_TOKENS = 96  # of a prompt's end that are drafted from (appliance/llama/draft.py)


def draft_bytes(header: GgufHeader, shape: ModelShape, size: ServeSize) -> int:
    """What a draft model takes beside its target,
    whose size is `size`, in the same process.

    That is weights, vocabulary, and a context of `DRAFT_WINDOW` cells per slot, which
    reads prompts in small steps.
    """
    alone = footprint(header, shape, _drafting(size))
    not_taken = alone.worker_bytes + alone.grammar_bytes + alone.template_bytes
    return alone.own_bytes - not_taken + SMALL_BUFFERS_BYTES


def heads_bytes(header: GgufHeader, shape: ModelShape, size: ServeSize) -> int:
    """What a file's own heads take beside its other layers: weights, a context as a
    draft model's, and what the other layers made of a step's rows.
    """
    layers = header.integer(f"{header.architecture}.block_count")
    kv_heads = header.integers(f"{header.architecture}.attention.head_count_kv", layers)[-1]
    own = dataclasses.replace(shape, num_kv_heads=(kv_heads,), state=NO_STATE)
    alone = footprint(header, own, _drafting(size))
    hidden_rows = size.sizes.max_rows + DRAFT_ROWS + size.sizes.slots * DRAFT_FIRST_TOKENS
    return (
        sum(tensor.num_bytes for tensor in head_tensors(header))
        + alone.kv_bytes
        + alone.compute_bytes
        + alone.scratch_bytes
        + 4 * shape.num_vocab * size.num_sequences  # logits
        + 4 * shape.embedding * hidden_rows
        + SMALL_BUFFERS_BYTES
    )


def _drafting(size: ServeSize) -> ServeSize:
    """Of the context that drafts for one of `size`."""
    sizes = dataclasses.replace(
        size.sizes,
        kv_cells=size.sizes.slots * DRAFT_WINDOW,
        kv_type="f16",
        max_rows=DRAFT_ROWS,
        ubatch_rows=min(size.sizes.ubatch_rows, DRAFT_ROWS),
        max_draft_rows=0,
        rollback_states=0,
    )
    return dataclasses.replace(size, sizes=sizes, max_body_bytes=0, adapter_bytes=0)
