"""An answer that is never silent, and not in more pieces than whoever reads it needs: each costs
some milliseconds of CPU on its way through Ray.

Knows nothing of what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from appliance.fleet.serving.wire import BEAT_S

T = TypeVar("T")


async def gathered(
    messages: AsyncGenerator[T, None],
    interval_s: float,
    is_urgent: Callable[[T], bool],
    *,
    beat_s: float = BEAT_S,
) -> AsyncGenerator[list[T], None]:
    """The messages in order, several at a time: what comes within `interval_s` of the piece
    before is in the next one, unless that was urgent; the first and the last one do not wait.

    An empty list comes at once, and for each `beat_s` in which nothing came. Closing it early
    closes `messages`; what that raises, this raises behind all that came before.
    """
    yield []
    came = list[T]()
    clock = asyncio.get_running_loop().time
    arrival = _new_arrival()
    held_until_s = 0.0

    async def read() -> None:
        async for message in messages:
            came.append(message)
            if not arrival.done():
                arrival.set_result(None)

    reading = asyncio.create_task(read())
    try:
        while not reading.done() or came:
            await asyncio.wait(
                (reading, arrival), timeout=beat_s, return_when=asyncio.FIRST_COMPLETED
            )
            if came and not reading.done() and (left_s := held_until_s - clock()) > 0:
                await asyncio.wait((reading,), timeout=left_s)
            piece, arrival = [*came], _new_arrival()
            came.clear()
            if not all(map(is_urgent, piece)):
                held_until_s = clock() + interval_s
            if piece or not reading.done():
                yield piece
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await messages.aclose()


def _new_arrival() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def next_of(answers: AsyncGenerator[bytes, None]) -> bytes | None:
    """What comes next, as a coroutine; None at the end."""
    return await anext(answers, None)
