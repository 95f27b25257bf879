"""Divisors whose least common multiple would keep the compiler busy for minutes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.text.schema.translation import translate


@pytest.mark.parametrize(
    ("schema", "left_out"),
    [
        ({"allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]}, ["#/allOf/0/multipleOf"]),
        ({"allOf": [{"multipleOf": 100}, {"multipleOf": 250}]}, []),
        (
            {"multipleOf": 7, "$ref": "#/$defs/a", "$defs": {"a": {"multipleOf": 9973}}},
            ["#/$defs/a/multipleOf"],
        ),
        ({"anyOf": [{"multipleOf": 9973}], "multipleOf": 0.3}, ["#/anyOf/0/multipleOf"]),
        (
            {"properties": {"price": {"multipleOf": 0.01}, "items": {"multipleOf": 9973}}},
            [],
        ),
        (
            {"properties": {"a": {"allOf": [{"multipleOf": 9973}, {"multipleOf": 2}]}}},
            ["#/properties/a/allOf/0/multipleOf"],
        ),
    ],
    ids=json.dumps,
)
def test_what_one_number_has_to_fit_is_bounded_together(schema: Any, left_out: list[str]) -> None:
    translated = translate(schema)
    assert list(translated.unenforced) == left_out


def test_so_are_all_of_a_schema() -> None:
    properties = {f"p{at}": {"multipleOf": 9000 + at} for at in range(900)}
    translated = translate({"properties": properties})
    kept = [one for one in translated.schema["properties"].values() if "multipleOf" in one]
    assert (len(kept), len(translated.unenforced)) == (4, 896)


def test_what_is_too_entangled_has_none_enforced() -> None:
    chain = {f"a{at}": {"$ref": f"#/$defs/a{at + 1}", "multipleOf": 2} for at in range(600)}
    translated = translate({"$ref": "#/$defs/a0", "$defs": {**chain, "a600": {}}})
    assert len(translated.unenforced) == 600
