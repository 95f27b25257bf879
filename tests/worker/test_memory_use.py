"""The exact memory of a process, as the kernel tells it."""

from __future__ import annotations

import mmap
import os

import psutil

from appliance.worker.memory_use import exact_memory

NUM_BYTES = 32 << 20


def test_exact_memory_is_that_of_the_kernel_and_grows_with_what_is_taken() -> None:
    before = exact_memory(os.getpid())
    # Pages of its own: what the allocator gives may have been resident before.
    with mmap.mmap(-1, NUM_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        for at in range(0, NUM_BYTES, mmap.PAGESIZE):
            block[at] = 1
        after = exact_memory(os.getpid())
    assert before is not None
    assert after is not None
    assert abs(after.anonymous_bytes - before.anonymous_bytes - NUM_BYTES) < 1 << 20
    assert after.pss_bytes == after.anonymous_bytes + after.file_bytes <= after.rss_bytes
    assert abs(before.rss_bytes - psutil.Process().memory_info().rss) < 4 << 20
    assert exact_memory(4_000_000) is None
