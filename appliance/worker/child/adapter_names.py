"""The adapters that a request names, as the engine knows them.

Knows no llama.cpp and no step.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.engine.adapters.sets import NO_ADAPTERS, AdapterSet
from appliance.errors import BadRequest
from appliance.protocol.adapters import AdapterKind, AdapterUse

_KEY_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class LoadedAdapter:
    """An adapter that is in memory; its number is its place among all."""

    name: str
    kind: AdapterKind
    digest: str  # of its file


class AdapterNames:
    """What the names of a model's adapters stand for."""

    def __init__(self, adapters: Sequence[LoadedAdapter] = ()) -> None:
        self._numbers = {adapter.name: at for at, adapter in enumerate(adapters)}
        self._adapters = tuple(adapters)

    @property
    def identities(self) -> tuple[str, ...]:
        """Changes with what any name stands for."""
        return tuple(f"{a.name}: {a.kind.value} {a.digest}" for a in self._adapters)

    def of(self, uses: Sequence[AdapterUse]) -> AdapterSet:
        """Raises `BadRequest` for a name that there is not."""
        scales: dict[int, float] = {}
        for use in uses:
            number = self._numbers.get(use.name)
            if number is None:
                raise BadRequest(f"This model has no adapter {use.name!r}.", param="lora")
            if use.scale is None or use.scale:
                scales[number] = 1.0 if use.scale is None else use.scale
        if not scales:
            return NO_ADAPTERS
        return AdapterSet(self._key(scales), tuple(sorted(scales.items())))

    def _key(self, scales: dict[int, float]) -> int:
        """By what the adapters are, and not by what they are called: saved cells outlive a
        change of names.
        """
        parts = sorted(
            f"{self._adapters[number].digest} {struct.pack('<f', scale).hex()}"
            for number, scale in scales.items()
        )
        digest = hashlib.sha256("\n".join(parts).encode()).digest()
        return int.from_bytes(digest[:_KEY_BYTES], "little")
