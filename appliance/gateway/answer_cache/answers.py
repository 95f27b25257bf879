"""Answers that were computed once: recorded as they come, and replayed to who asks the same
again.

Knows no HTTP, no format and no file. Requests of the same kind that are in flight together
are each computed: the first one's reader may be slow, or leave.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

import msgspec

from appliance.gateway.accounts.caller import Caller
from appliance.gateway.answer_cache.entries import Entries
from appliance.gateway.answer_cache.keys import AnswerKeys
from appliance.gateway.answer_cache.recording import Recording, recorded_events
from appliance.gateway.router import ServedModel
from appliance.protocol.events import CacheUse, Event, Finished, Started
from appliance.protocol.requests import GenerateRequest

_log = logging.getLogger(__name__)

_EVENTS_AT_ONCE = 16  # then other requests have their turn


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A request whose answer may be there."""

    keys: AnswerKeys
    arrived: datetime


class AnswerCache:
    """`is_shared`: a caller gets also what others were answered."""

    def __init__(
        self,
        entries: Entries,
        *,
        is_shared: bool = False,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """`now` is local time, in which templates write it."""
        self.entries = entries
        self._is_shared = is_shared
        self._now = now
        self._left: dict[str, Iterator[Event]] = {}  # replays whose readers may come back

    async def generate(
        self,
        caller: Caller,
        model: ServedModel,
        request: GenerateRequest,
        computed: AsyncGenerator[Event, None],
    ) -> AsyncGenerator[Event, None]:
        """The events of `computed`, or those that it had when the same was asked before;
        then it is closed, and has not begun. Raises what it raises.
        """
        async with aclosing(computed):
            asked = self._asked(caller, request)
            replay = None if asked is None else await self._found(asked, model)
            if asked is None:
                events = computed
            elif replay is None:
                events = self._recorded(asked, model, computed)
            else:
                if model.stay is not None:  # it has been used, as far as its lifetime goes
                    await model.stay(request.keep_alive_s)
                events = self._replayed(replay, request.resume_id)
            async with aclosing(events):
                async for event in events:
                    yield event

    def resume(self, resume_id: str) -> AsyncGenerator[Event, None] | None:
        """The rest of a replay that was left early; None: it was none."""
        return self._resumed(resume_id) if resume_id in self._left else None

    def forget(self, resume_id: str) -> None:
        """Nobody comes back for it."""
        self._left.pop(resume_id, None)

    def _asked(self, caller: Caller, request: GenerateRequest) -> _Asked | None:
        """None where the next one who asks the same may get another answer, or this one wants
        nothing of any cache.
        """
        if not (request.has_one_answer and request.uses_cache):
            return None
        try:
            keys = AnswerKeys("" if self._is_shared else caller.id, request)
        except OverflowError:  # no worker takes it: it is refused there, with the reason
            return None
        return _Asked(keys=keys, arrived=self._now())

    async def _found(self, asked: _Asked, model: ServedModel) -> Iterator[Event] | None:
        key = asked.keys.key(model.client.info, asked.arrived)
        if key is None:
            return None
        value = (await self.entries.get([key])).get(key)
        if value is None:
            return None
        try:
            return iter(recorded_events(value))
        except msgspec.DecodeError as error:
            _log.warning("a cached answer cannot be read, and is computed: %s", error)
            return None

    async def _recorded(
        self, asked: _Asked, model: ServedModel, computed: AsyncGenerator[Event, None]
    ) -> AsyncGenerator[Event, None]:
        key: bytes | None = None
        recording = Recording(self.entries.max_value_bytes)
        async for event in computed:
            recording.add(event)
            if isinstance(event, Started):
                key = self._key_once_rendered(asked, model)
                if key is not None:
                    yield msgspec.structs.replace(event, cache=CacheUse.MISS)
                    continue
            elif isinstance(event, Finished) and key is not None and event.repeats:
                # another worker may have taken it over, and be another quantization
                is_same = key == asked.keys.key(model.client.info, asked.arrived)
                if is_same and (value := recording.value()) is not None:
                    self.entries.put({key: value})
            yield event

    def _key_once_rendered(self, asked: _Asked, model: ServedModel) -> bytes | None:
        """None where the prompt may show the time before or that of now, which differ."""
        info = model.client.info
        key = asked.keys.key(info, asked.arrived)
        return key if key == asked.keys.key(info, self._now()) else None

    async def _resumed(self, resume_id: str) -> AsyncGenerator[Event, None]:
        rest = self._left.pop(resume_id)
        async with aclosing(self._replayed(rest, resume_id)) as events:
            async for event in events:
                yield event

    async def _replayed(
        self, events: Iterator[Event], resume_id: str
    ) -> AsyncGenerator[Event, None]:
        is_over = False
        try:
            for number, event in enumerate(events, 1):
                is_over = isinstance(event, Finished)
                yield _marked(event)
                if number % _EVENTS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        finally:
            if resume_id and not is_over:
                self._left[resume_id] = events


def _marked(event: Event) -> Event:
    if isinstance(event, Started | Finished):
        return msgspec.structs.replace(event, cache=CacheUse.HIT)
    return event
