"""Which formats of the present time a template's source names."""

from __future__ import annotations

import pytest

from appliance.text.chats.clock import clock_formats

LLAMA = """{%- if not date_string is defined %}{%- if strftime_now is defined %}
{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "26 Jul 2024" %}
{%- endif %}{%- endif %}"""


@pytest.mark.parametrize(
    ("source", "formats"),
    [
        ("", []),
        ("{{ messages }}", []),
        (LLAMA, ["%d %b %Y"]),
        ("{{ strftime_now( '%Y-%m-%d' ) }} {{ strftime_now('%H') }}", ["%H", "%Y-%m-%d"]),
        ("{{ strftime_now('%Y') }} {{ strftime_now(format) }}", None),
        ("{% set now = strftime_now %}{{ now('%Y') }}", None),
        ("{{ strftime_now('it\\'s %Y') }}", None),
        ("{% if strftime_now is not defined %}{% endif %}", []),
    ],
)
def test_formats_of_a_template(source: str, formats: list[str] | None) -> None:
    assert clock_formats(source) == formats
