"""GBNF as people write it, which llguidance's translation does not take as it is."""

from __future__ import annotations

import pytest
from llguidance.gbnf_to_lark import gbnf_to_lark

from appliance.text.gbnf import prepared_gbnf


@pytest.mark.parametrize(
    ("written", "prepared"),
    [
        (r'root ::= "caf\u00e9 \U0001F98A"', 'root ::= "café 🦊"'),
        (r'root ::= [\u0041-\u0043] "\u0022"', r'root ::= [\x41-\x43] "\x22"'),
        (r'root ::= [^\u0000-\u001f"]', r'root ::= [^\x00-\x1f"]'),
        (r'root ::= "\\u00e9 \x41 \n"', r'root ::= "\\u00e9 \x41 \n"'),
        (r'root ::= "\ud800 \U00110000"', r'root ::= "\ud800 \U00110000"'),
        (
            'root ::= start # start\nstart ::= [start] "start"',
            'root ::= start_0 # start\nstart_0 ::= [start] "start"',
        ),
        (
            'root ::= start start_0\nstart ::= "a"\nstart_0 ::= "b"',
            'root ::= start_1 start_0\nstart_1 ::= "a"\nstart_0 ::= "b"',
        ),
    ],
)
def test_what_would_be_lost_is_written_otherwise(written: str, prepared: str) -> None:
    assert prepared_gbnf(written).source == prepared


def test_it_is_translated_then() -> None:
    source = prepared_gbnf('root ::= start\nstart ::= "a" [\\u0041-\\u0043]').source
    assert gbnf_to_lark(source).endswith('start: START_0\nSTART_0: "a" /[\\x41-\\x43]/\n')
