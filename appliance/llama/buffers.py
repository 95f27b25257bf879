"""What llama.cpp has allocated, and where, read from its log.

Knows no model and no plan.

The lines: `CUDA0 model buffer size = 1234.56 MiB`, likewise `KV`, `RS`, `compute` and
`output` (src/llama-*.cpp). `llama_get_memory_breakdown` gives the same, but is not a
stable interface.
"""

from __future__ import annotations

import re
from collections import defaultdict

from appliance.llama.rpc.names import buffers_of

_LINE = re.compile(r"(\S+) +(?:model|KV|RS|compute|output) buffer size = +([0-9.]+) MiB")


class Buffers:
    """Sums of bytes by buffer type: a GPU's name such as `CUDA0`; `CPU_Mapped`, `CPU`
    or `CUDA_Host` in RAM.
    """

    def __init__(self) -> None:
        self._bytes: dict[str, int] = defaultdict(int)

    def note(self, line: str) -> None:
        """Counts what this line of the log reports, if anything."""
        match = _LINE.search(line)
        if match is not None:
            self._bytes[match[1]] += int(float(match[2]) * (1 << 20))

    def on(self, devices: tuple[str, ...]) -> dict[str, int]:
        """By names of a plan, which are others for helpers."""
        return {name: self._bytes[buffers_of(name)] for name in devices}

    def all(self) -> dict[str, int]:
        return dict(self._bytes)
