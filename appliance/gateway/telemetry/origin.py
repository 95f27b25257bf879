"""Which request of a client's something was done for. Knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Origin:
    """One request of a client's; several answers may be given to it."""

    request_id: str  # taken from the client or made; also in each log line of the request
    traceparent: str = ""  # W3C's header, as it came: whose trace this is part of
    tracestate: str = ""
