"""Answers in pieces: what comes at once, what is gathered, and what is said of nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from appliance.fleet.serving.beats import gathered

FOREVER_S = 3600.0


class Said:
    """What says what it is given."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self.is_closed = False

    def say(self, *words: str | Exception | None) -> None:
        for word in words:
            self._queue.put_nowait(word)

    async def messages(self) -> AsyncGenerator[str, None]:
        try:
            while (word := await self._queue.get()) is not None:
                if isinstance(word, Exception):
                    raise word
                yield word
        finally:
            self.is_closed = True


def pieces_of(
    said: Said, interval_s: float = FOREVER_S, beat_s: float = FOREVER_S
) -> AsyncGenerator[list[str], None]:
    return gathered(said.messages(), interval_s, str.isupper, beat_s=beat_s)


async def test_the_first_one_does_not_wait_and_the_last_one_ends_the_waiting() -> None:
    said = Said()
    pieces = pieces_of(said)
    assert await anext(pieces) == []
    said.say("one")
    assert await anext(pieces) == ["one"]
    said.say("two", "three", None)
    assert [piece async for piece in pieces] == [["two", "three"]]
    assert said.is_closed


async def test_behind_what_is_urgent_nothing_waits() -> None:
    said = Said()
    pieces = pieces_of(said)
    assert await anext(pieces) == []
    said.say("STARTED")
    assert await anext(pieces) == ["STARTED"]
    said.say("one")
    assert await anext(pieces) == ["one"]


async def test_what_comes_meanwhile_is_one_piece() -> None:
    said = Said()
    pieces = pieces_of(said, interval_s=0.01)
    assert await anext(pieces) == []
    said.say("one")
    assert await anext(pieces) == ["one"]
    said.say("two", "three")
    assert await anext(pieces) == ["two", "three"]


async def test_silence_is_told() -> None:
    pieces = pieces_of(said := Said(), beat_s=0.001)
    assert [await anext(pieces) for _ in range(3)] == [[], [], []]
    await pieces.aclose()
    assert said.is_closed


async def test_what_came_before_an_error_is_passed_on() -> None:
    said = Said()
    pieces = pieces_of(said)
    said.say("one", "two", ValueError("lost"))
    assert await anext(pieces) == []
    assert await anext(pieces) == ["one", "two"]
    with pytest.raises(ValueError, match="lost"):
        await anext(pieces)


async def test_nothing_at_all_is_an_end_as_well() -> None:
    said = Said()
    said.say(None)
    assert [piece async for piece in pieces_of(said)] == [[]]
