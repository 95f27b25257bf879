"""Attention's memory: what the plan counts is what the kernels ask for."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.fit.plan.kernel_scratch import attention_bytes
from appliance.fit.plan.shape import ModelShape
from tests.kernels.attention import Attention, Kernels


def shape_of(heads: int, kv_heads: int, size: int) -> ModelShape:
    return ModelShape(
        train_ctx=1,
        embedding=heads * size,
        feed_forward=1,
        experts_out=0,
        num_heads=heads,
        num_kv_heads=(kv_heads,),
        key_length=size,
        value_length=size,
        num_vocab=1,
        num_merges=0,
    )


@pytest.mark.parametrize("threads", [1, 2, 12, 64])
@pytest.mark.parametrize("cells", [256, 2048, 20_480])
@pytest.mark.parametrize("rows", [1, 4, 5, 32, 65])
def test_scratch_is_as_planned(attention: Kernels, rows: int, cells: int, threads: int) -> None:
    for heads, kv_heads, size in ((16, 4, 8), (9, 3, 16), (8, 8, 32), (71, 1, 8)):
        cache = np.zeros((1, cells, kv_heads, size), np.float16)
        work = Attention(np.zeros((1, heads, rows, size), np.float32), cache, cache)
        planned = attention_bytes(shape_of(heads, kv_heads, size), rows, cells, threads)
        assert attention.scratch_bytes(work, threads=threads) == planned
