"""The base of all request bodies. Knows no field of any."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_INT32 = 2**31 - 1
TokenId = Annotated[int, Field(ge=0, le=MAX_INT32)]
TokenCount = Annotated[int, Field(ge=1, le=MAX_INT32)]


class RequestModel(BaseModel):
    """Base of all request bodies: unknown fields, NaN and infinities are refused,
    nothing is converted.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, frozen=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _first_unknown_field_only(cls, data: object) -> object:
        """One complaint is enough:
        a million unknown fields would cost gigabytes of them.
        """
        if not isinstance(data, dict):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = next((name for name in data if name not in known), None)
        if unknown is None:
            return data
        return {name: value for name, value in data.items() if name in known or name == unknown}
