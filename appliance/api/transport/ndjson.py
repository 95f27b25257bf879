"""Newline-delimited JSON: a record a line.

Knows no record's meaning. Names of records and marks of the end have no place in it: a
stream ends where its body does. Format: https://github.com/ndjson/ndjson-spec

A blank line is an error to Ollama's own clients (Go, Python), which parse every line. Space in
front of a record is JSON's own (RFC 8259, 2): it keeps a silent stream alive.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from appliance.api.transport.wire_format import EndMark, NamedRecord, StreamItem

_encode = msgspec.json.Encoder().encode


class JsonLines:
    media_type = "application/x-ndjson"
    # as for server-sent events: proxies would otherwise collect the lines
    headers: Mapping[str, str] = MappingProxyType({"x-accel-buffering": "no"})

    comment = b" "  # of the line that follows

    def frame(self, item: StreamItem) -> bytes:
        """One line; JSON holds no raw line breaks."""
        if isinstance(item, EndMark):
            return b""
        return _encode(item.record if isinstance(item, NamedRecord) else item) + b"\n"


JSON_LINES = JsonLines()
