"""A record that is there already, as an HTTP response. Knows no wire format."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response


class RecordResponse(Response):
    """`record` is whatever msgspec encodes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)
