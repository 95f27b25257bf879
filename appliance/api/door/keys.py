"""Where a request may carry its key.

Knows no key.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers

from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.caller import Caller

# Anthropic's and llama.cpp's clients; Azure's
KEY_HEADERS = ("x-api-key", "api-key")
# Pages can give a WebSocket no header, but protocols to choose from: OpenAI's way.
_KEY_PROTOCOL = "openai-insecure-api-key."


async def caller_with(
    headers: Headers, admission: Admission, subprotocols: Sequence[str] = ()
) -> Caller:
    """`subprotocols`: those that a WebSocket's client offers. Raises what
    `Admission.authorize` does.
    """
    if not admission.requires_key:
        return await admission.authorize(None)
    named = [(name, headers[name]) for name in KEY_HEADERS if name in headers]
    named += [
        ("Sec-WebSocket-Protocol", offered.removeprefix(_KEY_PROTOCOL))
        for offered in subprotocols
        if offered.startswith(_KEY_PROTOCOL)
    ]
    return await admission.authorize(headers.get("authorization"), named)


def subprotocol_of(offered: Sequence[str]) -> str | None:
    """The one to answer with, for browsers close a WebSocket that chooses none: the
    first that is no key, if there is one.
    """
    plain = [each for each in offered if not each.startswith(_KEY_PROTOCOL)]
    return next(iter([*plain, *offered]), None)
