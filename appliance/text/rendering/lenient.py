"""What is tried where a template fails on what it was given, and other software renders it.

Knows no template and no process.

Jinja in Python raises where a template uses what is not there, such as a parameter
without a description; the engines that many templates are tried with (llama.cpp's, in
C++) show nothing in its place. And some templates know fewer schemas than JSON has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

_INNER = ("items", "additionalProperties")  # keywords whose value is a schema
_LISTS = ("anyOf", "oneOf", "allOf")
_NAMED = ("properties", "$defs", "definitions")


class Leniency:
    """Whether what is missing is shown as nothing: one switch for one environment."""

    def __init__(self) -> None:
        self.is_on = False

    def undefined(self) -> type[jinja2.Undefined]:
        """Jinja's own, and while the switch is on one that parts and sums may be made of."""
        leniency = self

        class Missing(jinja2.Undefined):
            __slots__ = ()

            def __getattr__(self, name: str) -> Any:
                if leniency.is_on and not name.startswith("__"):
                    return self
                return super().__getattr__(name)

            def __getitem__(self, key: object) -> Any:
                return self if leniency.is_on else super().__getitem__(key)

            def __add__(self, other: Any) -> Any:
                return other if leniency.is_on else super().__add__(other)

            def __radd__(self, other: Any) -> Any:
                return other if leniency.is_on else super().__radd__(other)

        return Missing


def without_nothing(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is none is not there, so that a loop over it is one over nothing; and content
    that is none is empty.
    """
    given = {name: value for name, value in values.items() if value is not None}
    messages = [
        {**message, "content": ""} if message.get("content", "") is None else message
        for message in given["messages"]
    ]
    return {**given, "messages": messages}


def with_simple_schemas(values: Mapping[str, Any]) -> dict[str, Any]:
    """With the parameters of all tools in words that every template knows."""
    tools = [_simple_tool(tool) for tool in values.get("tools") or ()]
    return {**without_nothing(values), **({"tools": tools} if tools else {})}


def _simple_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    parameters = function.get("parameters") or {}
    simple = _simple(parameters)
    if "description" not in parameters:
        del simple["description"]  # it is the function's
    return {**tool, "function": {**function, "parameters": simple}}


def _simple(schema: Any) -> dict[str, Any]:
    """One type instead of a list of them, and a description everywhere.

    `null` goes first: that a parameter may be left out says nearly the same.
    """
    if not isinstance(schema, Mapping):
        return {"description": ""}
    simple = dict(schema)
    simple["description"] = simple.get("description") or ""
    kinds = simple.get("type")
    if isinstance(kinds, list):
        known = [kind for kind in kinds if kind != "null"] or ["string"]
        simple["type"] = known[0] if len(known) == 1 else known
    for key in _NAMED:
        if isinstance(simple.get(key), Mapping):
            simple[key] = {name: _simple(inner) for name, inner in simple[key].items()}
    for key in _INNER:
        if isinstance(simple.get(key), Mapping):
            simple[key] = _simple(simple[key])
    for key in _LISTS:
        if isinstance(simple.get(key), list):
            simple[key] = [_simple(inner) for inner in simple[key]]
    return simple
