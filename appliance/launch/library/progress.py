"""What work reports by calls, as a stream.

Knows no work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from appliance.gateway.library.changes import Progress
from appliance.store.event import OnEvent, StoreEvent


async def reported(
    work: Callable[[OnEvent], Awaitable[None]],
) -> AsyncGenerator[Progress, None]:
    """Raises what `work` raises; closing it early cancels `work`, and waits for its end."""
    events: asyncio.Queue[StoreEvent | None] = asyncio.Queue()

    async def run() -> None:
        try:
            await work(events.put_nowait)
        finally:
            events.put_nowait(None)

    task = asyncio.create_task(run())
    try:
        while (event := await events.get()) is not None:
            yield Progress(event.text, event.done_bytes, event.total_bytes)
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
