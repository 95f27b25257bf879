"""What a form of calls is:
the marks around calls, and a body that can be read and be kept to.

Knows no model.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from appliance.text.answer_parts import Parts
from appliance.text.characters import Characters, NotThisForm, Reading
from appliance.text.lark import Lark

MAX_NAME_CHARS = 256  # of a function, and of a parameter: what is longer is no call
# behind the first, where the model is kept to calls: a weak one would never stop
MORE_CALLS = "{0,15}"
_DEFINITION = re.compile(r"#/(\$defs|definitions)/([^/]+)")
_MAX_HOPS = 8  # from one reference to the next
_NAME = re.compile(r"[^\s\"'<>{}\[\]()]+")


@dataclass(frozen=True)
class Tool:
    """A function that may be called; `parameters` is a JSON schema of an object."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_strict: bool = False  # calls keep to all of the schema, or are refused

    @property
    def properties(self) -> Mapping[str, Any]:
        """The schema of each parameter."""
        properties = self.parameters.get("properties")
        return properties if isinstance(properties, Mapping) else {}

    @property
    def required(self) -> frozenset[str]:
        names = self.parameters.get("required")
        return frozenset(names) if isinstance(names, list) else frozenset()

    def schema_of(self, parameter: str) -> Mapping[str, Any]:
        """Empty, which allows anything, where none is given.

        One that refers to another has what that one says in it, and what both refer to.
        """
        schema = self.properties.get(parameter)
        if not isinstance(schema, Mapping):
            return {}
        for _ in range(_MAX_HOPS):
            target = self._target(schema.get("$ref"))
            if target is None:
                break
            schema = {**target, **{key: schema[key] for key in schema if key != "$ref"}}
        definitions = self.parameters.get("$defs")
        return schema if definitions is None else {**schema, "$defs": definitions}

    def _target(self, reference: object) -> Mapping[str, Any] | None:
        found = _DEFINITION.fullmatch(reference) if isinstance(reference, str) else None
        definitions = self.parameters.get(found[1]) if found else None
        target = definitions.get(found[2]) if found and isinstance(definitions, Mapping) else None
        return target if isinstance(target, Mapping) else None


Tools = Mapping[str, Tool]


class Body(Protocol):
    """What stands between the marks of one call."""

    @property
    def marks(self) -> Sequence[str]:
        """Literals of its own that may be special tokens."""

    def read(self, characters: Characters, parts: Parts, tools: Tools) -> Reading[None]:
        """One call, emitted piece by piece.

        Raises `NotThisForm`, but only while nothing of it has been emitted.
        """

    def lark(self, tool: Tool, lark: Lark) -> str:
        """An expression of exactly the calls of `tool`."""


class CallIds(enum.Enum):
    """What a call's id must look like for the chat template to take it again."""

    ANY = "any"
    NINE = "nine"  # letters and digits, as Mistral's templates check
    COUNTED = "counted"  # `functions.NAME:NUMBER`, which Kimi's show to the model


@dataclass(frozen=True, kw_only=True)
class CallSyntax:
    """One form of calls."""

    # opens each call, or a JSON list of them; empty: an answer begins with a call or
    # has none
    begin: str
    body: Body
    end: str = ""
    lead: str = ""  # what a model writes behind `begin`, white space and all
    trail: str = ""  # the same before `end`
    is_list: bool = False  # a JSON list of calls
    section: tuple[str, str] = ("", "")  # around all calls together
    between: str = ""  # only separates them
    ids: CallIds = CallIds.ANY


def checked_name(text: str) -> str:
    """Raises `NotThisForm` for what cannot be a function's name."""
    name = text.strip()
    if not _NAME.fullmatch(name):
        raise NotThisForm
    return name
