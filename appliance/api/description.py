"""What responses look like, for the OpenAPI description: the schemas of our records.

Knows no endpoint.

Requests describe themselves, through FastAPI; responses are encoded by msgspec, which
FastAPI does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from fastapi import FastAPI

from appliance.api.transport.ndjson import JSON_LINES
from appliance.api.transport.streamed_response import SERVER_SENT_EVENTS, Framing
from appliance.api.transport.wire_format import EndMark

_PLACE = "#/components/schemas/{name}"
_OURS = "Response."  # so that no record of a response has the name of one of a request
_COMPONENTS = "x-response-components"

Responses = dict[int | str, dict[str, Any]]


def success_responses(
    record: Any,
    *,
    error: type[msgspec.Struct],
    stream: type[msgspec.Struct] | None = None,
    end_mark: EndMark | None = None,
    may_be_partial: bool = False,
    framing: Framing = SERVER_SENT_EVENTS,
) -> Responses:
    """For a route's `responses`: status 200 with this record, and where it may stream
    with such records as events, or in another `framing`.

    A record is a type that msgspec encodes. A stream that breaks has an `error` as its
    last event. `may_be_partial`: requests may ask for some fields only.
    """
    kinds = (record,) if stream is None else (record, error, stream)
    (whole, *events), components = _schemas(*kinds)
    partial = [{"type": "object"}] if may_be_partial else []
    content = {"application/json": {"schema": _any_of(whole, *partial)}}
    if events:
        broken, event = events
        item = _any_of(event, broken, *partial)
        # of lines OpenAPI describes each one
        frame = item if framing is JSON_LINES else _event(item, end_mark)
        content[framing.media_type] = {"schema": frame}
    description = (
        "The response, whole or, if asked for, as a stream." if events else "The response."
    )
    return {200: _response(description, content, components)}


def error_responses(error: type[msgspec.Struct]) -> Responses:
    """For a router's `responses`.

    Naming 4XX also keeps FastAPI from announcing its own 422.
    """
    (schema,), components = _schemas(error)
    content = {"application/json": {"schema": schema}}
    return {
        "4XX": _response("The request was refused.", content, components),
        "5XX": _response("The server could not respond.", content, components),
    }


@cache  # a hundred routes have a dozen kinds of records, and nobody changes what is found
def _schemas(*records: Any) -> tuple[list[Any], dict[str, Any]]:
    """Of each of them, and of what these refer to, by name."""
    found, components = msgspec.json.schema_components(records, ref_template="{name}")
    named = {_OURS + name: _placed(schema) for name, schema in components.items()}
    return [_placed(schema) for schema in found], named


def _response(
    description: str, content: dict[str, Any], components: dict[str, Any]
) -> dict[str, Any]:
    return {"description": description, "content": content, _COMPONENTS: components}


def _any_of(*schemas: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [*schemas]} if len(schemas) > 1 else schemas[0]


def _event(record: dict[str, Any], end_mark: EndMark | None) -> dict[str, Any]:
    """One event of a stream, as OpenAPI 3.2 describes them: its data is JSON, or the
    mark of the end.
    """
    data: dict[str, Any] = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": record,
    }
    if end_mark is not None:
        data = _any_of({"const": end_mark.text}, data)
    return {
        "type": "object",
        "required": ["data"],
        "properties": {"event": {"type": "string"}, "data": data},
    }


def describe_responses(app: FastAPI) -> None:
    """Has `app.openapi()` also hold the records that its routes named."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        whole = described()
        components = whole.setdefault("components", {}).setdefault("schemas", {})
        for path in whole["paths"].values():
            for operation in path.values():
                for response in operation["responses"].values():
                    for name, record in response.pop(_COMPONENTS, {}).items():
                        known = components.setdefault(name, record)
                        assert known == record, f"two records are called {name}"
        return whole

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way


def describe_unknown_parameters(app: FastAPI) -> None:
    """Has `app.openapi()` say that bodies may have properties which it does not name."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        whole = described()
        for path in whole["paths"].values():
            for operation in path.values():
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    # forms are described where they stand, and say nothing of others
                    if reference := content["schema"].get("$ref"):
                        schema = whole["components"]["schemas"][reference.rpartition("/")[2]]
                        schema.pop("additionalProperties", None)
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
