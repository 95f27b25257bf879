"""Which kernels of our own a process computes with. Knows no kernel and loads none."""

from __future__ import annotations

from appliance.protocol.record import Record

# Without it, flash attention over f16 cells is llama.cpp's own: docs/decisions/0006.
ATTENTION_F16 = "attention f16"
ATTENTION_Q8_0 = "attention q8_0"


class KernelUse(Record, frozen=True):
    """Decided by the parent, for all children that compute with a model."""

    library: str = ""  # its file; empty: none, all is computed by llama.cpp's own
    build: str = ""  # changes with every byte of it
    names: tuple[str, ...] = ()  # of those that are used; llama.cpp has the rest

    @property
    def identity(self) -> str:
        """For the key of whatever was computed or timed with them."""
        return f"{self.build} ({', '.join(self.names)})" if self.library else "none"

    def has(self, name: str) -> bool:
        return bool(self.library) and name in self.names


NO_KERNELS = KernelUse()
