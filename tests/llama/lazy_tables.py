"""Run as a child: what of a model's per-layer table is in memory, and what it answers.

Usage: python -m tests.llama.lazy_tables MODEL.gguf (lazy|whole)
Prints JSON: `loaded_pages` and `used_pages` of the table in the page cache, when the
model is loaded and when `NUM_TOKENS` tokens were computed; `tokens`, greedy ones.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import sys
from pathlib import Path

import numpy as np

from appliance.engine.batch import Batch
from appliance.fit.plan.weights import ranges_of
from appliance.llama.context import Context, ContextConfig
from appliance.llama.model import Model
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.file_range import FileRange
from appliance.store.gguf_header import read_header

NUM_TOKENS = 16
SIZES = ContextSizes(
    kv_cells=256, slots=1, max_rows=64, kv_type="f16", threads=1, ubatch_rows=64, batch_threads=1
)


def pages_in_memory(path: Path, table: FileRange) -> int:
    """mincore(2), of whole pages."""
    first, end = -(-table.first // mmap.PAGESIZE) * mmap.PAGESIZE, table.end
    length = (end - first) // mmap.PAGESIZE * mmap.PAGESIZE
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=first)
    view = np.frombuffer(mapped, np.uint8)
    pages = (ctypes.c_ubyte * (length // mmap.PAGESIZE))()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(view.ctypes.data), length, pages) == 0
    return sum(page & 1 for page in pages)


def make_cold(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(path: Path, how: str) -> dict[str, object]:
    (table,) = ranges_of(read_header(path))
    make_cold(path)
    model = Model(path, use_extra_bufts=False, tables=[table] if how == "lazy" else [])
    loaded = pages_in_memory(path, table)
    context = Context(model, ContextConfig(sizes=SIZES))
    tokens = [5]
    for position in range(NUM_TOKENS):
        batch = Batch()
        batch.add(tokens[-1], position, 0, wants_logits=True)
        context.decode(batch)
        tokens.append(int(context.logits(0).argmax()))
    used = pages_in_memory(path, table)
    return {
        "num_pages": table.num_bytes // mmap.PAGESIZE,
        "loaded_pages": loaded,
        "used_pages": used,
        "tokens": tokens[1:],
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
