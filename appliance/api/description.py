"""What answers look like, for the OpenAPI description: the schemas of our records.

Knows no endpoint.

Requests describe themselves, through FastAPI; answers are encoded by msgspec, which
FastAPI does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI

from appliance.api.errors import ErrorBody
from appliance.api.transport import sse

_PLACE = "#/components/schemas/{name}"
_OURS = "Answer."  # so that no record of an answer has the name of one of a request
_COMPONENTS = "x-answer-components"


def answers(
    record: Any,
    stream: type[msgspec.Struct] | None = None,
    *,
    ends_with_done: bool = False,
    may_be_partial: bool = False,
) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: status 200 with this record, and where it may stream
    with such records as events.

    A record is a type that msgspec encodes. A stream that breaks tells an error as its
    last event. `may_be_partial`: requests may ask for some fields only.
    """
    kinds = [record, ErrorBody] if stream is None else [record, ErrorBody, stream]
    found, components = msgspec.json.schema_components(kinds, ref_template="{name}")
    whole, error, *events = map(_placed, found)
    partial = [{"type": "object"}] if may_be_partial else []
    content = {"application/json": {"schema": _any_of(whole, *partial)}}
    for event in events:
        told = _event(_any_of(event, error, *partial), ends_with_done=ends_with_done)
        content[sse.MEDIA_TYPE] = {"schema": told}
    return {
        200: {
            "description": "The answer, whole or, if asked for, as a stream."
            if stream
            else "The answer.",
            "content": content,
            _COMPONENTS: {_OURS + name: _placed(schema) for name, schema in components.items()},
        }
    }


def _any_of(*schemas: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [*schemas]} if len(schemas) > 1 else schemas[0]


def _event(record: dict[str, Any], *, ends_with_done: bool) -> dict[str, Any]:
    """One event of a stream, as OpenAPI 3.2 describes them: its data is JSON, or
    OpenAI's mark of the end.
    """
    data: dict[str, Any] = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": record,
    }
    if ends_with_done:
        data = _any_of({"const": sse.DONE_DATA}, data)
    return {
        "type": "object",
        "required": ["data"],
        "properties": {"event": {"type": "string"}, "data": data},
    }


def describe_answers(app: FastAPI) -> None:
    """Has `app.openapi()` also hold the records that its routes named."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        whole = described()
        components = whole.setdefault("components", {}).setdefault("schemas", {})
        for path in whole["paths"].values():
            for operation in path.values():
                for response in operation["responses"].values():
                    components.update(response.pop(_COMPONENTS, {}))
        return whole

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way


def _placed(schema: Any) -> Any:
    """The same, with its references to where we put what they name."""
    if isinstance(schema, dict):
        return {
            key: _reference(value) if key == "$ref" else _placed(value)
            for key, value in schema.items()
        }
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [_placed(value) for value in schema]
    return schema


def _reference(name: str) -> str:
    return _PLACE.format(name=_OURS + name)
