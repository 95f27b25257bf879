"""Adapters of a model: what they are, and which ones a request wants.

Knows no file's content and no scheduling.
"""

from __future__ import annotations

import enum

import msgspec

from appliance.protocol.record import Record


class AdapterKind(enum.Enum):
    """What of a model's computing an adapter changes."""

    LORA = "lora"  # products: each gets a small one added
    CONTROL_VECTOR = "control_vector"  # what layers give on: each gets a vector added

    @property
    def words(self) -> str:
        return "LoRA adapter" if self is AdapterKind.LORA else "control vector"


class AdapterFile(Record, frozen=True, kw_only=True):
    """An adapter whose file is there and fits its model."""

    name: str
    kind: AdapterKind
    path: str
    scale: float = 1.0  # where a request does not say
    num_bytes: int = 0  # in memory
    # Of a control vector: where in the file each layer's numbers are, float32.
    offsets: dict[int, int] = msgspec.field(default_factory=dict)


class AdapterUse(Record, frozen=True, kw_only=True):
    """An adapter that a request wants, by its name or its number among those of its kind."""

    name: str = ""
    number: int = -1
    scale: float | None = None  # None: the adapter's own
