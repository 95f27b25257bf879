"""A body as it comes, where nobody has read it before: see `BodyGuard`.

Knows nothing of what is in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.requests import ClientDisconnect, Request

from appliance.errors import BadRequest, BodyTooSlow
from appliance.time_limit import within

LEAST_BYTES_PER_S = 1024  # on average, or a file of some bytes would hold a connection for ever


async def body_parts(
    request: Request, clock: Callable[[], float] | None = None
) -> AsyncIterator[bytes]:
    """Raises `BodyTooSlow` where nothing of it comes for the application's
    `client_timeout_s`, or for that time and on average too little, and `BadRequest` where
    the client leaves. `clock`: in seconds; the event loop's, unless another one is given.
    """
    timeout_s: float = request.app.state.client_timeout_s
    clock = clock or asyncio.get_running_loop().time
    parts = request.stream()
    end_s = clock() + timeout_s
    while True:
        left_s = end_s - clock()
        try:
            if left_s <= 0:
                raise asyncio.TimeoutError
            part = await within(min(left_s, timeout_s), anext(parts))
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise BodyTooSlow(
                f"The file came too slowly: nothing of it for {timeout_s:g} s "
                f"(--client-timeout-s), or less than {LEAST_BYTES_PER_S} bytes a second."
            ) from None
        except ClientDisconnect:
            raise BadRequest("The client left before the file was whole.") from None
        end_s += len(part) / LEAST_BYTES_PER_S
        yield part
