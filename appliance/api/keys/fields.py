"""The bodies that make and change keys. Knows no key.

As in `appliance keys`, `"none"` takes a limit away; null is absent, as everywhere.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from appliance.api.fields.request import RequestModel
from appliance.gateway.accounts.caller import MAX_LIMIT, MAX_PRIORITY

_NONE = "none"
_MAX_EXPIRES_S = 253_402_300_799  # the last second of the year 9999
_MAX_MODELS = 256


class _OrNone:
    """Beside its values a field has the word that takes them all away."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        def read(value: object) -> object:
            return None if value == _NONE else value

        return core_schema.no_info_before_validator_function(read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [handler(schema), {"const": _NONE}]}


def _distinct(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(dict.fromkeys(names))


ModelId = Annotated[str, Field(min_length=1, max_length=300)]
Models = Annotated[
    Annotated[list[ModelId], Field(min_length=1, max_length=_MAX_MODELS)] | None,
    AfterValidator(_distinct),
    _OrNone(),
    Field(description="Ids or aliases of those that it may use; others are not there for it."),
]
Limit = Annotated[Annotated[int, Field(ge=1, le=MAX_LIMIT)] | None, _OrNone()]
Expiry = Annotated[
    Annotated[float, Field(ge=0, le=_MAX_EXPIRES_S)] | None,
    _OrNone(),
    Field(description="When it ends, in seconds since the epoch."),
]


class KeyTermsRequest(RequestModel):
    """What is left out stays, or of a new key is without a limit."""

    refuses_unknown: ClassVar[bool] = True
    # the words of JSON Schema that stay where the description says that others are taken
    model_config = ConfigDict(json_schema_extra={"unevaluatedProperties": False})

    models: Models = None
    requests_per_minute: Limit = None
    tokens_per_minute: Limit = None
    tokens_per_day: Limit = None
    concurrent_requests: Limit = None
    priority: Annotated[int, Field(ge=1, le=MAX_PRIORITY)] | None = None
    expires_s: Expiry = None
    is_admin: bool | None = None

    def given(self) -> dict[str, Any]:
        """Those that were sent, for `KeyTerms.changed`."""
        return {each: getattr(self, each) for each in self.model_fields_set - {"name"}}


class NewKeyRequest(KeyTermsRequest):
    name: Annotated[str, Field(min_length=1, max_length=64)]
