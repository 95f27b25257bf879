"""How many rows may be worked on at once so that the process stays within its memory.

Knows no files and no types.
"""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from convert.dequantize.weight import QuantizedWeight
from convert.errors import NotEnoughMemory
from convert.tensors import OutputTensor, stored_tensors

DEFAULT_MAX_RAM_BYTES = 3 << 29  # 1.5 GiB
# 2 MiB of float32: large enough to hide Python's part, small enough to share out evenly
BLOCK_ITEMS = 1 << 19
MIN_BLOCK_ITEMS = 1 << 16  # below this, Python's part of a block shows
# One item on its way: as stored and as float32 (4 each), what lies between (8), and as
# every type at once (14).
ITEM_BYTES = 32
# Beside these, what a quantized weight's numbers lie in before they are floats.
QUANTIZED_ITEM_BYTES = 16
_RESERVE_BYTES = 24 << 20  # threads' stacks, the allocator's slack, what the progress display needs


@dataclass(frozen=True)
class WorkSize:
    """How many rows are in memory at once: one block for each thread."""

    num_threads: int
    block_items: int  # at most, in each block


def fit_work(
    max_ram_bytes: int, num_threads: int, tensors: Sequence[OutputTensor], kept_bytes: int = 0
) -> WorkSize:
    """The work that fits beside what the process holds already, and `kept_bytes` that it will
    hold: smaller blocks first, then fewer threads.

    Raises `NotEnoughMemory` with the number that would do if not even one thread's
    smallest block fits.
    """
    held_bytes = psutil.Process().memory_info().rss + _kept_bytes(tensors) + kept_bytes
    smallest = max(
        [MIN_BLOCK_ITEMS, *(tensor.row_items * tensor.source.row_group for tensor in tensors)]
    )
    item_bytes = ITEM_BYTES + (QUANTIZED_ITEM_BYTES if _are_quantized(tensors) else 0)
    needed_bytes = max(held_bytes + _RESERVE_BYTES + smallest * item_bytes, peak_rss_bytes())
    if max_ram_bytes < needed_bytes:
        raise NotEnoughMemory(
            f"--max-ram must be at least {(needed_bytes >> 20) + 1} MiB for this checkpoint (got "
            f"{max_ram_bytes >> 20} MiB): its header, its tokenizer and one block of its rows "
            "take that much."
        )
    items = (max_ram_bytes - held_bytes - _RESERVE_BYTES) // item_bytes
    threads = min(num_threads, items // smallest)
    return WorkSize(threads, min(BLOCK_ITEMS, items // threads))


def _kept_bytes(tensors: Sequence[OutputTensor]) -> int:
    """What is kept whole of the two largest tensors: of one and the next, where one ends."""
    kept = [
        sum(stored.held_bytes for stored in stored_tensors(tensor.source)[:2]) for tensor in tensors
    ]
    return sum(sorted(kept)[-2:])


def _are_quantized(tensors: Sequence[OutputTensor]) -> bool:
    return any(
        isinstance(stored, QuantizedWeight)
        for tensor in tensors
        for stored in stored_tensors(tensor.source)
    )


def peak_rss_bytes() -> int:
    """The most memory this program has held until now.

    On Linux `ru_maxrss` counts what the parent held when it forked, so the kernel's
    mark of our own memory goes first.
    """
    status = Path("/proc/self/status")
    if status.exists():
        mark = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        if mark is not None:
            return int(mark[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes everywhere but on macOS
