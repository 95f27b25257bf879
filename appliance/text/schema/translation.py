"""A JSON schema made of nothing but what the compiler of grammars keeps to, and the places
of what was left out of it.

Knows no grammar. Whatever is left out makes the schema wider, never narrower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.errors import BadRequest
from appliance.text.schema.disjoint import Disjoint
from appliance.text.schema.divisors import costly_divisors
from appliance.text.schema.endless import Endless
from appliance.text.schema.keywords import (
    NOT_ENFORCED,
    SINGLE,
    Keyword,
    NotEnforceable,
    allows_all,
    invalid,
)
from appliance.text.schema.numbers import shown
from appliance.text.schema.references import Document, Target, step
from appliance.text.schema.walk import Compiled

MAX_PROPERTIES = 2000  # of one object, which costs the compiler their square
_MAX_NAMES = 200  # of properties that all have one schema
_ANNOTATIONS_OF_NAMES = frozenset({"title", "description", "$comment", "examples", "default"})
_OTHER_RULES_OF_NAMES = frozenset({"properties", "patternProperties", "unevaluatedProperties"})
_MAX_HOPS = 8  # from one reference to the next
_IN_PLACE = frozenset(
    {"$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "if", "then", "else"}
    | {"dependentSchemas", "dependencies", "not", "contains"}
)


@dataclass(frozen=True)
class Loosening:
    """What the compiler has said of a schema that it cannot keep to."""

    keywords: frozenset[str]  # are left out, wherever they stand
    can_match: Callable[[str], bool]  # whether it takes a regular expression


def _any_pattern(_: str) -> bool:
    return True


EXACT = Loosening(frozenset(), _any_pattern)


@dataclass(frozen=True)
class Translated:
    """`unenforced` are the JSON pointers of the keywords that were left out."""

    schema: dict[str, Any]
    unenforced: tuple[str, ...]


def translate(schema: object, loosening: Loosening = EXACT) -> Translated:
    """Raises `BadRequest`, which names the place, for what is no schema, for what would be
    changed or costs too much, and where no finite value fits.
    """
    try:
        translation = _Translation(schema, loosening)
        return Translated(translation.whole(), tuple(translation.unenforced))
    except RecursionError as error:
        raise BadRequest("The JSON schema is nested too deeply.") from error


class _Translation:
    def __init__(self, schema: object, loosening: Loosening) -> None:
        self._root = schema
        self._loosening = loosening
        self._document = Document(schema)
        self._targets: dict[int, tuple[str, Target]] = {}  # by identity, each with its new name
        self._waiting: list[tuple[str, Target]] = []
        self._exclusive: list[tuple[str, list[Compiled]]] = []  # options of which one may fit
        self._places: dict[int, str] = {}  # of compiled schemas
        self.unenforced: dict[str, None] = {}  # in order

    def whole(self) -> dict[str, Any]:
        compiled = self.schema(self._root, "#")
        if isinstance(compiled, bool):
            if not compiled:
                raise BadRequest("The JSON schema is false: it allows nothing at all.")
            return {}
        definitions: dict[str, Compiled] = {}
        while self._waiting:
            name, target = self._waiting.pop()
            definitions[name] = self.schema(target.schema, target.place)
        if definitions:
            compiled["$defs"] = definitions
        disjoint = Disjoint(definitions)
        for place, options in self._exclusive:
            if not disjoint.are_all(options):
                self.leave_out(place)
        self._cut_endless(compiled)
        for schema in costly_divisors(compiled):
            del schema["multipleOf"]
            self.leave_out(f"{self._places[id(schema)]}/multipleOf")
        return compiled

    def _cut_endless(self, compiled: dict[str, Any]) -> None:
        endless = Endless(compiled)
        if loop := endless.loop(compiled):
            back = next(schema for schema in loop if "$ref" in schema)
            start = self._places[id(endless.target(back))]
            raise BadRequest(
                f"The JSON schema has no end: {shown(self._places[id(back)])} is required and "
                f"leads back to {shown(start)}, so that every value would need another one in it. "
                "Make a property optional, let an array be empty, or allow null."
            )
        endless.cut()

    def leave_out(self, place: str) -> None:
        self.unenforced[place] = None

    def schema(self, part: object, place: str) -> Compiled:
        if isinstance(part, bool):
            return part
        if not isinstance(part, dict):
            raise invalid(place, "must be a schema: an object, true or false")
        compiled: dict[str, Any] = {}
        for key, value in part.items():
            if value is not None or key == "const":  # elsewhere null means absent
                at = f"{place}/{step(key)}"
                self._take(key, Keyword(value=value, place=at, schema=part), compiled)
        if "$ref" in self._loosening.keywords:
            compiled = self._only_reference(compiled, place)
        self._places[id(compiled)] = place
        return compiled

    def _only_reference(self, compiled: dict[str, Any], place: str) -> dict[str, Any]:
        """Without what stands beside a reference, which cannot be combined with it."""
        conditions = [compiled, *compiled.get("allOf", [])]
        reference = next((one for one in conditions if one is not False and "$ref" in one), None)
        if reference is None or compiled.keys() == {"$ref"}:
            return compiled
        for key in compiled:
            if key != "$ref":
                self.leave_out(f"{place}/{key}")
        return {"$ref": reference["$ref"]}

    def _take(self, key: str, keyword: Keyword, into: dict[str, Any]) -> None:
        if key in _HOLDING:
            _HOLDING[key](self, keyword, into)
        elif key in NOT_ENFORCED:
            if not NOT_ENFORCED[key](keyword):
                self.leave_out(keyword.place)
        elif key in SINGLE:
            try:
                taken = SINGLE[key](keyword)
                if taken and not self._is_kept_to(key, keyword.value):
                    raise NotEnforceable
            except NotEnforceable:
                self.leave_out(keyword.place)
            else:
                into.update(_with_names(taken, into))

    def _is_kept_to(self, key: str, value: Any) -> bool:
        if key == "pattern":
            return self._loosening.can_match(value)
        return key not in self._loosening.keywords

    # --- keywords that have schemas in them -------------------------------------------

    def _list(self, value: object, place: str) -> list[Compiled]:
        if not isinstance(value, list) or not value:
            raise invalid(place, "must be a list of at least one schema")
        return [self.schema(one, f"{place}/{at}") for at, one in enumerate(value)]

    def _all_of(self, keyword: Keyword, into: dict[str, Any]) -> None:
        if keyword.value != []:
            into.setdefault("allOf", []).extend(self._list(keyword.value, keyword.place))

    def _any_of(self, keyword: Keyword, into: dict[str, Any]) -> None:
        _add_options(self._list(keyword.value, keyword.place), into)

    def _one_of(self, keyword: Keyword, into: dict[str, Any]) -> None:
        options = self._list(keyword.value, keyword.place)
        self._exclusive.append((keyword.place, options))
        _add_options(options, into)

    def _reference(self, keyword: Keyword, into: dict[str, Any]) -> None:
        if not isinstance(keyword.value, str):
            raise invalid(keyword.place, "must be a string")
        target = self._document.resolve(keyword.value, keyword.schema, keyword.place)
        if target is None:
            self.leave_out(keyword.place)
            return
        if isinstance(target.schema, bool):
            into.setdefault("allOf", []).append(target.schema)
            return
        if id(target.schema) not in self._targets:
            self._targets[id(target.schema)] = str(len(self._targets)), target
            self._waiting.append(self._targets[id(target.schema)])
        reference = {"$ref": f"#/$defs/{self._targets[id(target.schema)][0]}"}
        self._places[id(reference)] = keyword.place.rpartition("/")[0]
        if "$ref" in into:
            into.setdefault("allOf", []).append(reference)
        else:
            into.update(reference)

    def _items(self, keyword: Keyword, into: dict[str, Any]) -> None:
        if not isinstance(keyword.value, list):
            into["items"] = self.schema(keyword.value, keyword.place)
            return
        if keyword.value:  # written as it was up to 2019-09
            into["prefixItems"] = self._list(keyword.value, keyword.place)
        if (more := keyword.schema.get("additionalItems")) is not None:
            into["items"] = self.schema(more, f"{keyword.place.rpartition('/')[0]}/additionalItems")

    def _first_items(self, keyword: Keyword, into: dict[str, Any]) -> None:
        if keyword.value != []:
            into["prefixItems"] = self._list(keyword.value, keyword.place)

    def _properties(self, keyword: Keyword, into: dict[str, Any]) -> None:
        named = self._named(keyword.value, keyword.place)
        if len(named) > MAX_PROPERTIES:
            raise BadRequest(
                f"An object in the JSON schema ({shown(keyword.place)}) has {len(named)} "
                f"properties; at most {MAX_PROPERTIES} are allowed."
            )
        into["properties"] = {
            name: self.schema(one, f"{keyword.place}/{step(name)}") for name, one in named.items()
        }
        required = [
            name
            for name, one in named.items()
            if isinstance(one, dict) and one.get("required") is True
        ]
        if required:  # draft 3's
            into["required"] = list(dict.fromkeys([*into.get("required", []), *required]))

    def _named(self, value: object, place: str) -> Mapping[str, object]:
        if not isinstance(value, dict):
            raise invalid(place, "must be an object with a schema for each name")
        return {name: True if one is None else one for name, one in value.items()}

    def _patterns(self, keyword: Keyword, into: dict[str, Any]) -> None:
        named = self._named(keyword.value, keyword.place)
        if not self._keeps_patterns(named):
            self.leave_out(keyword.place)
        elif named:
            into["patternProperties"] = {
                name: self.schema(one, f"{keyword.place}/{step(name)}")
                for name, one in named.items()
            }

    def _keeps_patterns(self, patterns: object) -> bool:
        return "patternProperties" not in self._loosening.keywords and (
            not isinstance(patterns, dict) or all(map(self._loosening.can_match, patterns))
        )

    def _other_properties(self, keyword: Keyword, into: dict[str, Any]) -> None:
        schema = self.schema(keyword.value, keyword.place)
        if allows_all(schema) or self._rules_of_names(keyword.schema) is not None:
            return
        if not self._keeps_patterns(keyword.schema.get("patternProperties")):
            self.leave_out(keyword.place)  # it would forbid what the patterns allow
            return
        into["additionalProperties"] = schema

    def _property_names(self, keyword: Keyword, into: dict[str, Any]) -> None:
        """Names that are listed, or match a pattern, where nothing else is said of names."""
        if keyword.value is True or not self._asked_of_names(keyword.value):
            return
        rules = self._rules_of_names(keyword.schema)
        if rules is None:
            self.leave_out(keyword.place)
            return
        more = keyword.schema.get("additionalProperties")
        schema = self.schema(
            True if more is None else more,
            f"{keyword.place.rpartition('/')[0]}/additionalProperties",
        )
        if "pattern" in rules:
            into["patternProperties"] = {rules["pattern"]: schema}
        else:
            into["properties"] = dict.fromkeys(rules["enum"], schema)
        into["additionalProperties"] = False

    def _rules_of_names(self, part: Mapping[str, Any]) -> dict[str, Any] | None:
        """What `propertyNames` comes to, where it can be said as properties."""
        if not _OTHER_RULES_OF_NAMES.isdisjoint(part):
            return None
        value = part.get("propertyNames")
        for _ in range(_MAX_HOPS):
            if not (isinstance(value, dict) and set(value) - _ANNOTATIONS_OF_NAMES == {"$ref"}):
                break
            target = self._document.resolve(str(value["$ref"]), value, "#")
            value = None if target is None else target.schema
        if not isinstance(value, dict):
            return None
        rules = self._asked_of_names(value)
        if len(rules) != 1:
            return None
        names = rules.get("enum")
        is_listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if is_listed and names and len(names) <= _MAX_NAMES:
            return rules
        pattern = rules.get("pattern")
        is_pattern = isinstance(pattern, str) and self._keeps_patterns({pattern: True})
        return rules if is_pattern else None

    def _asked_of_names(self, value: object) -> dict[str, Any]:
        """Beside that a name is a string."""
        if not isinstance(value, dict):
            return {"schema": value}
        rules = {key: one for key, one in value.items() if key not in _ANNOTATIONS_OF_NAMES}
        if rules.get("type") == "string":
            del rules["type"]
        return rules

    def _unevaluated(self, keyword: Keyword, into: dict[str, Any]) -> None:
        """Where nothing else evaluates, it is what is not named."""
        above, _, key = keyword.place.rpartition("/")
        named, plain = (
            ("patternProperties", "additionalProperties")
            if key == "unevaluatedProperties"
            else ("", "items")
        )
        if allows_all(keyword.value):
            return
        if not _IN_PLACE.isdisjoint(keyword.schema) or isinstance(
            keyword.schema.get("items"), list
        ):
            self.leave_out(keyword.place)
        elif keyword.schema.get(plain) is None:
            if named and not self._keeps_patterns(keyword.schema.get(named)):
                self.leave_out(keyword.place)
            else:
                into[plain] = self.schema(keyword.value, f"{above}/{key}")


def _with_names(taken: Mapping[str, Any], before: dict[str, Any]) -> Mapping[str, Any]:
    """A schema's `required` beside what its properties say themselves."""
    if "required" not in taken or "required" not in before:
        return taken
    return {"required": list(dict.fromkeys([*before["required"], *taken["required"]]))}


def _add_options(options: list[Compiled], into: dict[str, Any]) -> None:
    if "anyOf" in into:
        into.setdefault("allOf", []).append({"anyOf": options})
    else:
        into["anyOf"] = options


_Taking = Callable[[_Translation, Keyword, dict[str, Any]], None]
_HOLDING: Mapping[str, _Taking] = {
    "allOf": _Translation._all_of,
    "anyOf": _Translation._any_of,
    "oneOf": _Translation._one_of,
    "$ref": _Translation._reference,
    "$dynamicRef": _Translation._reference,
    "$recursiveRef": _Translation._reference,
    "items": _Translation._items,
    "prefixItems": _Translation._first_items,
    "properties": _Translation._properties,
    "patternProperties": _Translation._patterns,
    "additionalProperties": _Translation._other_properties,
    "propertyNames": _Translation._property_names,
    "unevaluatedProperties": _Translation._unevaluated,
    "unevaluatedItems": _Translation._unevaluated,
}
