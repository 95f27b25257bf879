"""A body as it comes, where nobody has read it before: see `BodyGuard`.

Knows nothing of what is in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from appliance.errors import BadRequest, BodyTooSlow


async def body_parts(request: Request) -> AsyncIterator[bytes]:
    """Raises `BodyTooSlow` where nothing of it comes for the application's
    `client_timeout_s`, and `BadRequest` where the client leaves.
    """
    timeout_s: float = request.app.state.client_timeout_s
    parts = request.stream()
    while True:
        try:
            yield await asyncio.wait_for(anext(parts), timeout_s)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise BodyTooSlow(
                f"Nothing of the file came for {timeout_s:g} s (--client-timeout-s)."
            ) from None
        except ClientDisconnect:
            raise BadRequest("The client left before the file was whole.") from None
