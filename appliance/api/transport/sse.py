"""Server-sent events as OpenAI frames them: `data: JSON`, blank line. Knows no event's meaning.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

MEDIA_TYPE = "text/event-stream"

DONE_DATA = "[DONE]"
DONE = f"data: {DONE_DATA}\n\n".encode()

_encode = msgspec.json.Encoder().encode


def frame(record: msgspec.Struct | Mapping[str, Any]) -> bytes:
    """One event; JSON holds no raw line breaks, so one `data:` line is always enough."""
    return b"data: %b\n\n" % _encode(record)


def named_frame(name: str, record: msgspec.Struct) -> bytes:
    """The same with the event's name in a line of its own."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(record))
