"""Parameters that do nothing: those that cannot change a response, and those that would
and are not there. Knows no parameter.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

# About cost, place, storage or caching: whatever is sent, it changes no response.
Hint = Annotated[Any, Field(description="Taken; it changes nothing.")]


class NeutralOnly:
    """A parameter that is not supported yet, except as null or a value that changes nothing."""

    def __init__(self, *neutral: object) -> None:
        self._neutral = neutral

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"enum": [None, *self._neutral], "description": "Not supported yet."}

    def _check(self, value: object) -> object:
        # 1 == True, so these are told apart.
        if value is None or any(
            value == known and isinstance(value, bool) == isinstance(known, bool)
            for known in self._neutral
        ):
            return value
        way_out = " or ".join(
            ["leave it out", *(f"send {json.dumps(known)}" for known in self._neutral)]
        )
        raise PydanticCustomError(
            "unsupported_parameter", "It is not supported yet: {way_out}.", {"way_out": way_out}
        )
