"""An answer that is never silent: where nothing comes for a second, it says so.

Knows nothing of what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from appliance.fleet.serving.wire import BEAT, BEAT_S


async def with_beats(
    answers: AsyncGenerator[bytes, None], interval_s: float = BEAT_S
) -> AsyncGenerator[bytes, None]:
    """The same, with a `BEAT` at once and for each interval in which nothing came. Closing
    it early closes `answers`.
    """
    yield BEAT
    reading: asyncio.Task[bytes | None] | None = None
    try:
        while True:
            reading = reading or asyncio.create_task(next_of(answers))
            await asyncio.wait((reading,), timeout=interval_s)
            if not reading.done():
                yield BEAT
                continue
            data, reading = reading.result(), None
            if data is None:
                return
            yield data
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await answers.aclose()


async def next_of(answers: AsyncGenerator[bytes, None]) -> bytes | None:
    """What comes next, as a coroutine; None at the end."""
    return await anext(answers, None)
