"""Where a request may carry its key.

Knows no key.
"""

from __future__ import annotations

from starlette.datastructures import Headers

from appliance.gateway.admission import Admission
from appliance.gateway.caller import Caller

# Anthropic's and llama.cpp's clients; Azure's
KEY_HEADERS = ("x-api-key", "api-key")


def caller_with(headers: Headers, admission: Admission) -> Caller:
    """Raises `Unauthorized`."""
    if not admission.requires_key:
        return admission.authorize(None)
    named = [(name, headers[name]) for name in KEY_HEADERS if name in headers]
    return admission.authorize(headers.get("authorization"), named)
