"""An answer of letters, and a client that plays and resumes several. Knows no transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from appliance.protocol.events import Delta, Event, Started
from tests.api.scripted_client import ANSWER, ChoosingClient, ScriptedClient

LETTERS: list[Event] = [
    Started(1, 5),
    *[Delta(request_id=1, text=letter, num_tokens=1) for letter in "abcdefgh"],
    ANSWER[-1],
]


class ScriptsClient(ChoosingClient):
    """Each request is played by a client of its own, which also resumes it."""

    def __init__(self, *scripts: Any) -> None:
        super().__init__(*scripts)
        self._players: dict[str, ScriptedClient] = {}

    async def generate(self, request: Any, on_computed: object = None) -> AsyncIterator[Event]:
        player = self._players[request.resume_id] = ScriptedClient(
            *self._scripts[len(self.requests)]
        )
        self.requests.append(request)
        async for event in self._played(player.generate(request)):
            yield event

    async def resume(self, resume_id: str) -> AsyncIterator[Event]:
        async for event in self._played(self._players[resume_id].resume(resume_id)):
            yield event

    async def _played(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()  # type: ignore[attr-defined] # a generator
            self.num_closed += 1
            if self.num_closed == len(self._scripts):
                self.closed.set()
