"""The picture of a session shows what a terminal would, and asks nobody for anything."""

from __future__ import annotations

import re

from tests.cli.recording import picture


def test_what_was_overwritten_is_not_shown() -> None:
    svg = picture("$ appliance\r\n\x1b[31mwaiting\x1b[0m\r\x1b[Kready\r\n$ ")
    texts = re.findall(r"<text [^>]*>([^<]+)</text>", svg)
    shown = [text.replace("&#160;", " ").strip() for text in texts]
    assert [text for text in shown if text] == ["appliance", "$ appliance", "ready"]
    assert "url(http" not in svg.replace("'", "").replace('"', "")
