"""The adapters of a served model: which ones a request is computed with.

Knows no file and no scheduling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from appliance.errors import BadRequest
from appliance.protocol.adapters import AdapterKind, AdapterUse
from appliance.protocol.requests import GenerateRequest

MAX_SCALE = 1000.0
_PARAMS = {AdapterKind.LORA: "lora", AdapterKind.CONTROL_VECTOR: "control_vectors"}


@dataclass(frozen=True, kw_only=True)
class ServedAdapter:
    """An adapter as clients see it."""

    name: str
    kind: AdapterKind
    scale: float  # where a request does not say


class ModelAdapters:
    """Those of one model; all that is served under other names of it has the same."""

    def __init__(self, adapters: Sequence[ServedAdapter] = ()) -> None:
        self.all = tuple(adapters)
        self._usual: dict[str, float] = {}

    def of_kind(self, kind: AdapterKind) -> list[ServedAdapter]:
        """By their number."""
        return [adapter for adapter in self.all if adapter.kind is kind]

    def find(self, name: str) -> ServedAdapter | None:
        return next((adapter for adapter in self.all if adapter.name == name), None)

    def usual_scale(self, name: str) -> float:
        """That of requests which name no adapter; 0 until it is set."""
        return self._usual.get(name, 0.0)

    def set_usual(self, kind: AdapterKind, scales: Sequence[tuple[int, float]]) -> None:
        """From now on, by number; those of this kind that are not among them count as 0.

        Raises `BadRequest`, and then nothing has changed.
        """
        uses = [AdapterUse(number=number, scale=scale) for number, scale in scales]
        chosen = {use.name: use.scale or 0.0 for use in self._named(kind, uses)}
        for adapter in self.of_kind(kind):
            self._usual.pop(adapter.name, None)
        self._usual.update(chosen)

    def resolved(self, request: GenerateRequest, own: str = "") -> GenerateRequest:
        """With every adapter that it is computed with by its name and scale: those it asks
        for, else the one called `own`, which is part of its model's name, else the usual ones.

        Raises `BadRequest` for one that there is not.
        """
        if not (self.all or request.loras or request.control_vectors):
            return request
        return msgspec.structs.replace(
            request,
            loras=self._chosen(AdapterKind.LORA, request.loras, own),
            control_vectors=self._chosen(AdapterKind.CONTROL_VECTOR, request.control_vectors, own),
        )

    def _chosen(
        self, kind: AdapterKind, asked: list[AdapterUse] | None, own: str
    ) -> list[AdapterUse]:
        if asked is None and own:
            asked = [AdapterUse(name=a.name) for a in self.of_kind(kind) if a.name == own]
        elif asked is None:
            asked = [
                AdapterUse(name=a.name, scale=self.usual_scale(a.name)) for a in self.of_kind(kind)
            ]
        return sorted(self._named(kind, asked), key=lambda use: use.name)

    def _named(self, kind: AdapterKind, uses: Sequence[AdapterUse]) -> list[AdapterUse]:
        """By name, each with its scale; those of scale 0 are left out."""
        found: dict[str, float] = {}
        for use in uses:
            if use.scale == 0:  # as llama.cpp's clients list all that they know of
                continue
            adapter = self._one(kind, use)
            scale = adapter.scale if use.scale is None else use.scale
            if not math.isfinite(scale) or abs(scale) > MAX_SCALE:
                raise BadRequest(
                    f"The scale of an adapter must be between -{MAX_SCALE:g} and {MAX_SCALE:g} "
                    f"(got {scale}).",
                    param=_PARAMS[kind],
                )
            if adapter.name in found:
                raise BadRequest(
                    f"The {kind.words} {adapter.name!r} is named twice.", param=_PARAMS[kind]
                )
            found[adapter.name] = scale
        return [AdapterUse(name=name, scale=scale) for name, scale in found.items() if scale]

    def _one(self, kind: AdapterKind, use: AdapterUse) -> ServedAdapter:
        known = self.of_kind(kind)
        for number, adapter in enumerate(known):
            if use.name == adapter.name or (not use.name and use.number == number):
                return adapter
        asked = repr(use.name[:100]) if use.name else str(use.number)
        names = ", ".join(f"{at} ({each.name})" for at, each in enumerate(known)) or "none"
        raise BadRequest(
            f"This model has no {kind.words} {asked}. It has: {names}.", param=_PARAMS[kind]
        )


NO_ADAPTERS = ModelAdapters()
