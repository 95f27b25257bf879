"""What the references in a JSON schema lead to, within the schema itself.

Knows no other keyword, and fetches nothing.

Source: https://json-schema.org/draft/2020-12/json-schema-core, sections 8.2 and 9.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from appliance.errors import BadRequest
from appliance.text.schema.numbers import shown

_DATA = ("const", "enum", "default", "examples")  # no schemas are in these
_ANCHORS = ("$anchor", "$dynamicAnchor")


@dataclass(frozen=True)
class Target:
    """What a reference leads to, and its place in the whole as a JSON pointer."""

    schema: Any
    place: str


class Document:
    """One schema, with whatever in it has an address."""

    def __init__(self, root: object) -> None:
        self._base = ""
        self._bases: dict[int, str] = {}  # of schemas below an `$id`, by their identity
        self._resources = {"": Target(root, "#")}
        self._anchors: dict[tuple[str, str], list[Target]] = {}
        for part, place, base in _objects(root):
            self._note(part, place, base)

    def _note(self, part: dict[str, Any], place: str, base: str) -> None:
        if base:
            self._bases[id(part)] = base
            self._resources.setdefault(base, Target(part, place))
        for key in _ANCHORS:
            if isinstance(name := part.get(key), str):
                self._anchors.setdefault((base, name), []).append(Target(part, place))

    def resolve(self, reference: str, within: Mapping[str, Any], place: str) -> Target | None:
        """None where it leads out of this schema, or depends on who refers.

        Raises `BadRequest` where it leads to nothing.
        """
        base = self._bases.get(id(within), "")
        try:
            address, fragment = urldefrag(urljoin(base, reference))
        except ValueError:
            return None
        resource = self._resources.get(address)
        if resource is None:
            return None
        if not fragment:
            return resource
        if fragment.startswith("/"):
            return self._at(resource, fragment, place)
        anchored = self._anchors.get((address, unquote(fragment)), [])
        if not anchored:
            raise _nothing(reference, place)
        return anchored[0] if len(anchored) == 1 else None

    def _at(self, resource: Target, pointer: str, place: str) -> Target:
        part, at = resource.schema, resource.place
        for written in pointer[1:].split("/"):
            key = unquote(written).replace("~1", "/").replace("~0", "~")
            if isinstance(part, dict) and key in part:
                part = part[key]
            elif isinstance(part, list) and key.isdecimal() and int(key) < len(part):
                part = part[int(key)]
            else:
                raise _nothing(f"#{pointer}", place)
            at += "/" + step(key)
        return Target(part, at)


def step(key: str | int) -> str:
    """A key as one step of a JSON pointer."""
    return str(key).replace("~", "~0").replace("/", "~1")


def _nothing(reference: str, place: str) -> BadRequest:
    return BadRequest(
        f"The JSON schema refers to {shown(reference)!r} ({shown(place)}), and there is nothing at "
        "that place in it."
    )


def _objects(root: object) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Every object that may be a schema, its place, and the address that it is relative to."""
    parts: list[tuple[object, str, str]] = [(root, "#", "")]
    while parts:
        part, place, base = parts.pop()
        if isinstance(part, dict):
            own = part.get("$id")
            if isinstance(own, str):
                base = _joined(base, own)
            yield part, place, base
            parts += [
                (value, f"{place}/{step(key)}", base)
                for key, value in part.items()
                if key not in _DATA
            ]
        elif isinstance(part, list):
            parts += [(value, f"{place}/{at}", base) for at, value in enumerate(part)]


def _joined(base: str, own: str) -> str:
    try:
        return urldefrag(urljoin(base, own))[0]
    except ValueError:
        return base
