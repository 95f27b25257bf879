"""What answers look like, for the OpenAPI description: the schemas of our records. Knows no endpoint.

Requests describe themselves, through FastAPI; answers are encoded by msgspec, which FastAPI does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI

from appliance.api import sse

_PLACE = "#/components/schemas/{name}"
_OURS = "Answer."  # so that no record of an answer has the name of one of a request
_COMPONENTS = "x-answer-components"


def answers(
    record: type[msgspec.Struct], stream: type[msgspec.Struct] | None = None
) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: status 200 with this record, and where it may stream with such records as events."""
    kinds = [record] if stream is None else [record, stream]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="{name}")
    content = {"application/json": {"schema": _placed(schemas[0])}}
    if stream is not None:
        content[sse.MEDIA_TYPE] = {"schema": _event(_placed(schemas[1]))}
    return {
        200: {
            "description": "The answer, whole or, if asked for, as a stream." if stream else "The answer.",
            "content": content,
            _COMPONENTS: {_OURS + name: _placed(schema) for name, schema in components.items()},
        }
    }


def _event(record: dict[str, Any]) -> dict[str, Any]:
    """One event of a stream, as OpenAPI 3.2 describes them: its data is JSON."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": record}
    return {"type": "object", "required": ["data"], "properties": {"event": {"type": "string"}, "data": data}}


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
        return {key: _reference(value) if key == "$ref" else _placed(value) for key, value in schema.items()}
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [_placed(value) for value in schema]
    return schema


def _reference(name: str) -> str:
    return _PLACE.format(name=_OURS + name)
