"""What is left of a key's limits, in the headers that OpenAI's clients know.

Knows no key. Source: https://platform.openai.com/docs/guides/rate-limits
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from starlette.types import Message, Send

from appliance.gateway.accounts.used import Standing

LIMIT_HEADERS = tuple(
    f"x-ratelimit-{what}-{kind}"
    for kind in ("requests", "tokens", "tokens-day")
    for what in ("limit", "remaining", "reset")
)


def with_limits(send: Send, standings: Callable[[], Iterable[Standing]]) -> Send:
    """As they are when the response begins: what it may take is reserved by then."""

    async def send_limits(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), *_headers(standings())]
            message = {**message, "headers": headers}
        await send(message)

    return send_limits


def _headers(standings: Iterable[Standing]) -> Iterator[tuple[bytes, bytes]]:
    for standing in standings:
        for what, value in (
            ("limit", str(standing.limit)),
            ("remaining", str(standing.left)),
            ("reset", duration_text(standing.reset_s)),
        ):
            yield f"x-ratelimit-{what}-{standing.kind}".encode(), value.encode()


def duration_text(duration_s: float) -> str:
    """As OpenAI writes it, such as `6m0s`, `1.5s` or `120ms`, rounded up."""
    ms = math.ceil(round(duration_s * 1000, 3))
    if ms < 1000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{ms / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds
