"""Compiled schemas that no finite value fits, because each of their values needs another one
in it: the compiler takes them, and an answer to them never ends.

Knows no keyword that the compiler does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.text.schema.walk import Compiled, all_schemas, parts_of

# A schema names others before they are known to end, so each pass may settle only one more.
_MAX_PASSES = 50
_MAX_STEPS = 200_000  # in all; what is too entangled is left to the compiler


class Endless:
    """`whole` holds what its references lead to in `$defs`."""

    def __init__(self, whole: dict[str, Any]) -> None:
        self._definitions: Mapping[str, Compiled] = whole.get("$defs", {})
        self._schemas = list(all_schemas(whole))
        self._ending: set[int] = set()
        self._num_steps_left = _MAX_STEPS
        self._is_settled = self._settle()

    def _settle(self) -> bool:
        """False: it takes too long to tell."""
        # Parts before what they are parts of; mostly also what is referred to before who refers.
        waiting = self._schemas[::-1]
        for _ in range(_MAX_PASSES):
            left = []
            for schema in waiting:
                if self._num_steps_left < 0:
                    return False
                if self._can_end(schema):
                    self._ending.add(id(schema))
                else:
                    left.append(schema)
            if len(left) == len(waiting):
                return True
            waiting = left
        return not waiting

    def loop(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        """The schemas through which `schema` leads to itself; empty if it has an end."""
        if not self._is_settled or self.ends(schema):
            return []
        path: dict[int, dict[str, Any]] = {}
        while id(schema) not in path:
            path[id(schema)] = schema
            schema = next((part for part in self._needed(schema) if not self.ends(part)), schema)
        passed = list(path.values())
        return passed[list(path).index(id(schema)) :]

    def cut(self) -> None:
        """What has no end becomes `false`, which no value fits either: an answer can then
        not get into it.
        """
        if not self._is_settled:
            return
        for schema in self._schemas:
            for holder, key, part in parts_of(schema):
                if not self.ends(part):
                    holder[key] = False

    def ends(self, schema: Compiled) -> bool:
        return isinstance(schema, bool) or id(schema) in self._ending

    def _can_end(self, schema: dict[str, Any]) -> bool:
        return (
            all(map(self.ends, self._conditions(schema)))
            and ("anyOf" not in schema or any(map(self.ends, schema["anyOf"])))
            and ("const" in schema or "enum" in schema or self._some_type_ends(schema))
        )

    def target(self, schema: dict[str, Any]) -> Compiled:
        """What its reference leads to."""
        return self._definitions[schema["$ref"].rpartition("/")[2]]

    def _conditions(self, schema: dict[str, Any]) -> list[Any]:
        return [*schema.get("allOf", []), *([self.target(schema)] if "$ref" in schema else [])]

    def _some_type_ends(self, schema: dict[str, Any]) -> bool:
        types = _types(schema)
        return (
            bool(types - {"object", "array"})
            or ("object" in types and all(map(self.ends, self._in_object(schema))))
            or ("array" in types and all(map(self.ends, self._in_array(schema))))
        )

    def _needed(self, schema: dict[str, Any]) -> list[Any]:
        """What a value of `schema` has in it, or is as well."""
        return [
            part
            for part in (
                *self._conditions(schema),
                *schema.get("anyOf", []),
                *(self._in_object(schema) if "object" in _types(schema) else []),
                *(self._in_array(schema) if "array" in _types(schema) else []),
            )
            if isinstance(part, dict)
        ]

    def _in_object(self, schema: dict[str, Any]) -> list[Any]:
        """Of each required property whatever is said of it here and in the conditions."""
        holders = self._with_conditions(schema)
        names = {name for holder in holders for name in holder.get("required", [])}
        needed = []
        for holder in holders:
            properties = holder.get("properties", {})
            needed += [part for name, part in properties.items() if name in names]
            if "patternProperties" not in holder and not names <= properties.keys():
                needed.append(holder.get("additionalProperties", True))
        return needed

    def _in_array(self, schema: dict[str, Any]) -> list[Any]:
        holders = self._with_conditions(schema)
        num_items = max(holder.get("minItems", 0) for holder in holders)
        needed = []
        for holder in holders:
            first = holder.get("prefixItems", [])
            needed += first[:num_items]
            needed += [holder["items"]] if num_items > len(first) and "items" in holder else []
        return needed

    def _with_conditions(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        found = {id(schema): schema}
        waiting = [schema]
        while waiting:
            self._num_steps_left -= 1
            for part in self._conditions(waiting.pop()):
                if isinstance(part, dict) and id(part) not in found:
                    found[id(part)] = part
                    waiting.append(part)
        return list(found.values())


def _types(schema: dict[str, Any]) -> frozenset[str]:
    names = schema.get("type", ["object", "array", "string"])
    return frozenset(names if isinstance(names, list) else [names])
