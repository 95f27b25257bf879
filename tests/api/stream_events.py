"""The events of a streamed response, read back. Knows no endpoint."""

from __future__ import annotations

import json
from typing import Any


def events_of(text: str) -> list[Any]:
    """The `data:` events of a stream, parsed; `[DONE]` stays text."""
    frames = text.split("\n\n")
    assert frames.pop() == "", "a stream ends with a whole event"
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [
        data if data == "[DONE]" else json.loads(data) for data in (frame[6:] for frame in frames)
    ]
