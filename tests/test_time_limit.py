"""What is awaited for a time ends with it, and with whoever awaits it."""

from __future__ import annotations

import asyncio

import pytest

from appliance.time_limit import within

ENOUGH_S = 60.0


async def passes(count: int) -> None:
    """So many turns of everything else on the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


class Work:
    """Is done after so many turns; None: never."""

    def __init__(self, num_turns: int | None = 1) -> None:
        self.was_cancelled = False
        self._num_turns = num_turns

    async def run(self) -> str:
        try:
            if self._num_turns is None:
                await asyncio.get_running_loop().create_future()
            await passes(self._num_turns or 0)
        except asyncio.CancelledError:
            await passes(3)  # it puts things away
            self.was_cancelled = True
            raise
        return "done"


async def test_it_gives_and_raises_what_the_work_does() -> None:
    async def failing() -> None:
        raise ValueError("no")

    assert await within(ENOUGH_S, Work().run()) == "done"
    with pytest.raises(ValueError, match="no"):
        await within(ENOUGH_S, failing())


async def test_when_the_time_is_over_the_work_has_ended() -> None:
    work = Work(None)
    with pytest.raises(asyncio.TimeoutError):
        await within(0, work.run())
    assert work.was_cancelled


async def test_a_cancellation_is_never_lost() -> None:
    """Also where the work ends in the same turn; `asyncio.wait_for` of Python 3.11 loses it
    there.
    """
    num_cancelled = 0
    for num_passes in range(1, 12):
        work = Work(5)
        waiting = asyncio.create_task(within(ENOUGH_S, work.run()))
        await passes(num_passes)
        if waiting.done():
            break
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert waiting.cancelled(), num_passes
        num_cancelled += 1
    assert waiting.result() == "done", "each turn before its end was tried"
    assert num_cancelled > 5
