"""Adds to the text of a configuration file without losing anything that stands there.

Knows no agent and no path. What is added to YAML is checked by reading the result: it
must say what it said, and what was added.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from appliance.errors import ApplianceError


class CannotMerge(ApplianceError):
    """A file that has to be changed by hand."""


def json_text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def merged_json(text: str, addition: Mapping[str, Any]) -> str:
    """Objects are merged, all else is replaced. Raises `CannotMerge` for what is not
    plain JSON: its comments would be lost.
    """
    if not text.strip():
        return json_text(addition)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise CannotMerge(f"it is not plain JSON ({error})") from error
    if not isinstance(found, dict):
        raise CannotMerge("it holds no JSON object")
    return json_text(_merged(found, addition))


def merged_yaml(text: str, addition: Mapping[str, str | int]) -> str:
    """Sets keys at the top. Raises `CannotMerge`."""
    found = _yaml(text)
    for key, value in addition.items():
        line = f"{key}: {json.dumps(value, ensure_ascii=False)}"
        if key in found:
            text = _with_line(text, re.compile(rf"^{re.escape(key)}:.*$", re.MULTILINE), line)
        else:
            text = f"{_with_line_end(text)}{line}\n"
    return _checked(text, {**found, **addition})


def merged_yaml_list(text: str, key: str, item: Mapping[str, Any]) -> str:
    """Puts an item at the beginning of a list, in one line, or in the place of such a line
    with the same `name`. Raises `CannotMerge`.
    """
    found = _yaml(text)
    items = found.get(key) or []
    if not isinstance(items, list):
        raise CannotMerge(f"'{key}' is no list in it")
    line = f"- {json.dumps(item, ensure_ascii=False)}"
    begin = f"- {json.dumps({'name': item['name']}, ensure_ascii=False)[:-1]},"
    ours = re.compile(rf"^([ \t]*){re.escape(begin)}.*$", re.MULTILINE)
    if older := ours.search(text):
        text = _with_line(text, ours, older[1] + line)
        expected = [item if _has_name(each, item["name"]) else each for each in items]
        return _checked(text, {**found, key: expected})
    if any(_has_name(each, item["name"]) for each in items):
        raise CannotMerge(f"it has an item {item['name']} that was not written from here")
    if key in found:
        first = re.search(rf"^{re.escape(key)}:.*\n(?:[ \t]*(?:#.*)?\n)*([ \t]*)- ", text, re.M)
        indent = "  " if first is None else first[1]
        head = re.compile(rf"^{re.escape(key)}:[ \t]*(?:\[\][ \t]*)?(?:#.*)?$", re.MULTILINE)
        text = _with_line(text, head, f"{key}:\n{indent}{line}")
    else:
        text = f"{_with_line_end(text)}{key}:\n  {line}\n"
    return _checked(text, {**found, key: [item, *items]})


def _merged(found: Mapping[str, Any], addition: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(found)
    for key, value in addition.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = _merged(below, value)
        else:
            merged[key] = value
    return merged


def _has_name(item: Any, name: str) -> bool:
    return isinstance(item, dict) and item.get("name") == name


def _yaml(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CannotMerge("it is not one YAML document with a value in each line") from error
    if found is not None and not isinstance(found, dict):
        raise CannotMerge("it holds no YAML mapping")
    return found or {}


def _checked(text: str, expected: Mapping[str, Any]) -> str:
    if _yaml(text) != expected:
        raise CannotMerge("it is written in a way that is not understood here")
    return text


def _with_line(text: str, pattern: re.Pattern[str], line: str) -> str:
    """In the place of what is found first."""
    # a function, for of a text `re` would read the backslashes
    return pattern.sub(lambda _: line, text, count=1)


def _with_line_end(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
