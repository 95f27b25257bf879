"""Request fields that say which adapters an answer is computed with. Knows no model.

`lora` is llama.cpp's (tools/server/README.md); here an adapter may also be given by name.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from appliance.api.fields.request import MAX_INT32, RequestModel
from appliance.protocol.adapters import AdapterUse

_MAX_USES = 64
_Number = Annotated[int, Field(ge=0, le=MAX_INT32), Tag("<number>")]
_Name = Annotated[str, Field(min_length=1, max_length=64), Tag("<name>")]


def _tag(value: object) -> str:
    return "<name>" if isinstance(value, str) else "<number>"


class AdapterScale(RequestModel):
    id: Annotated[_Number | _Name, Discriminator(_tag)]
    scale: Annotated[float, Field(ge=-1000, le=1000)] | None = None

    @property
    def use(self) -> AdapterUse:
        if isinstance(self.id, str):
            return AdapterUse(name=self.id, scale=self.scale)
        return AdapterUse(number=self.id, scale=self.scale)


_Scales = Annotated[list[AdapterScale], Field(max_length=_MAX_USES)]


class AdapterFields(RequestModel):
    """Part of every request that generates text. Absent or null: what is usual."""

    lora: _Scales | None = None
    control_vectors: _Scales | None = None

    @property
    def adapters(self) -> dict[str, Any]:
        """Fields of `GenerateRequest`."""
        return {"loras": _uses(self.lora), "control_vectors": _uses(self.control_vectors)}


def _uses(scales: list[AdapterScale] | None) -> list[AdapterUse] | None:
    return None if scales is None else [each.use for each in scales]
