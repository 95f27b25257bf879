"""Says, in headers of the response, which model answers a request for the model `auto`, and why.

Knows no model.
"""

from __future__ import annotations

from appliance.protocol.events import Route

AUTO_MODEL_HEADER = "x-auto-model"
AUTO_REASON_HEADER = "x-auto-reason"
_MAX_CHARS = 1000


def route_headers(route: Route | None) -> dict[str, str]:
    """Printable ASCII alone, as headers are."""
    if route is None:
        return {}
    return {AUTO_MODEL_HEADER: _plain(route.model), AUTO_REASON_HEADER: _plain(route.reason)}


def _plain(text: str) -> str:
    return "".join(each if " " <= each <= "~" else "?" for each in text[:_MAX_CHARS])
