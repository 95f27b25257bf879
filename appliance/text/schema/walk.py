"""The schemas within a compiled one.

Knows no keyword that the compiler does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Compiled = dict[str, Any] | bool


def parts_of(schema: dict[str, Any]) -> Iterator[tuple[Any, Any, Compiled]]:
    """The schemas in one, each with what holds it, and under which key."""
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield schema, key, schema[key]
    for key in ("anyOf", "allOf", "prefixItems"):
        yield from ((schema[key], at, part) for at, part in enumerate(schema.get(key, [])))
    for key in ("properties", "patternProperties"):
        held = schema.get(key, {})
        yield from ((held, name, part) for name, part in held.items())


def all_schemas(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """It and its definitions, one by one, each schema before its parts."""
    seen: set[int] = set()
    for root in (whole, *whole.get("$defs", {}).values()):
        waiting: list[Compiled] = [root]
        while waiting:
            schema = waiting.pop()
            if isinstance(schema, dict) and id(schema) not in seen:
                seen.add(id(schema))
                yield schema
                waiting += [part for _, _, part in parts_of(schema)]
