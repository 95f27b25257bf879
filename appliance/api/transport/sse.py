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

_RETRY_MS = 1000
_encode = msgspec.json.Encoder().encode


class ServerSentEvents:
    media_type = "text/event-stream"
    # Proxies such as nginx would otherwise collect the events.
    headers: Mapping[str, str] = {"x-accel-buffering": "no"}

    comment = b": keep-alive\n"
    retry = b"retry: %d\n" % _RETRY_MS

    def numbered(self, frame: bytes, stream_id: bytes, number: int) -> bytes:
        """With the id of event `number` of a stream before the event, so that whoever has
        its data has its id; before the first one, also how soon clients may come back.
        """
        numbered = b"id: %b.%d\n%b" % (stream_id, number, frame)
        return numbered if number else self.retry + numbered

    def frame(self, item: StreamItem) -> bytes:
        """One event; JSON holds no raw line breaks,
        so one `data:` line is always enough.
        """
        if isinstance(item, NamedRecord):
            return b"event: %b\ndata: %b\n\n" % (item.name.encode(), _encode(item.record))
        if isinstance(item, EndMark):
            return b"data: %b\n\n" % item.text.encode()
        return b"data: %b\n\n" % _encode(item)
