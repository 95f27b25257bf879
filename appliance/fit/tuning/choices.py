"""How this machine computes a model best: as measured, or by rule.

Knows no memory and no model.

The rule for attention: docs/decisions/0006.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

# On CPUs prompts are computed no faster by more rows at once (docs/performance.md), and
# the buffers grow with them.
MAX_UBATCH_ROWS = 128


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What was found to be fastest here;
    None, or a default, where nobody has measured.
    """

    use_extra_bufts: bool = False
    threads: int | None = None  # for single rows
    batch_threads: int | None = None  # for several rows at once
    flash_attention: bool | None = None  # with f16 KV: quantized KV cannot do without
    ubatch_rows: int | None = None  # computed together at most
    use_mmap: bool = True
    # As the machine has them: not tried, and no one's wish.
    own_kernels: bool = False
    own_q8_0_attention: bool = False

    def with_values(self, values: Mapping[str, Any]) -> Tuning:
        """The same with other values, by field."""
        return replace(self, **values)


def uses_flash_attention(kv_type: str, tuned: bool | None = None, *, on_gpu: bool = False) -> bool:
    """Only flash attention reads quantized V. For f16, ggml has no vector instructions
    for it on x86 for fewer than 64 rows: decoding at 2,000 cells takes twice as long as
    with plain matrix products (docs/performance.md). GPUs have kernels for it, and
    without it keep the scores of all cells: what was tuned was tuned on the CPU alone.
    """
    if kv_type != "f16" or on_gpu:
        return True
    return tuned if tuned is not None else platform.machine() not in ("x86_64", "AMD64")


def ubatch_rows(max_batch_rows: int, tuned: int | None = None, *, on_gpu: bool = False) -> int:
    """Rows that llama.cpp computes together: a step of more is computed in parts.

    GPUs take them all.
    """
    if on_gpu:
        return max_batch_rows
    return min(max_batch_rows, MAX_UBATCH_ROWS if tuned is None else tuned)
