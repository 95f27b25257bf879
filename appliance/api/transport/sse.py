"""Server-sent events: `data: JSON`,
with the event's name before it where it has one, then a blank line.

Knows no event's meaning. Format:
https://html.spec.whatwg.org/multipage/server-sent-events.html

A comment has no blank line of its own: what follows it is an event, and parsers that
are not exact take each blank line for the end of one, with no data (httpx-sse and
OpenAI's Python client once an event had an id, older ones of Go always).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from appliance.api.transport.wire_format import EndMark, NamedRecord, StreamItem

_encode = msgspec.json.Encoder().encode


class ServerSentEvents:
    media_type = "text/event-stream"
    # Proxies such as nginx would otherwise collect the events.
    headers: Mapping[str, str] = {"cache-control": "no-cache", "x-accel-buffering": "no"}

    comment = b": keep-alive\n"

    def frame(self, item: StreamItem) -> bytes:
        """One event; JSON holds no raw line breaks,
        so one `data:` line is always enough.
        """
        if isinstance(item, NamedRecord):
            return b"event: %b\ndata: %b\n\n" % (item.name.encode(), _encode(item.record))
        if isinstance(item, EndMark):
            return b"data: %b\n\n" % item.text.encode()
        return b"data: %b\n\n" % _encode(item)
