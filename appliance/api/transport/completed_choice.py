"""A request's choices, each collected from its events until it has ended.

Knows no wire format.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from appliance.gateway.choices import ChoiceEvent
from appliance.protocol.events import (
    Delta,
    Event,
    Finished,
    Route,
    SampledToken,
    Started,
    ToolCallPart,
)

# entering begins the request, leaving cancels it
ChoiceEvents = AbstractAsyncContextManager[AsyncIterator[ChoiceEvent]]


@dataclass
class CompletedToolCall:
    id: str
    name: str
    arguments: str = ""  # JSON, in so far as the model wrote that


@dataclass(frozen=True, kw_only=True)
class CompletedChoice:
    """All of one choice."""

    finished: Finished
    text: str
    tokens: list[SampledToken] | None  # None where no log-probabilities are asked for
    reasoning: str = ""
    tool_calls: list[CompletedToolCall] = field(default_factory=list)
    unenforced: Sequence[str] = ()  # see `Started`, like the next
    route: Route | None = None
    prompt_token_ids: list[int] = field(default_factory=list)  # where the request asks
    token_ids: list[int] = field(default_factory=list)  # likewise, see `Delta`


class GrowingChoices:
    """All choices of a request, whose events may be left and gone on with."""

    def __init__(self) -> None:
        self._growing: dict[int, _GrowingChoice] = defaultdict(_GrowingChoice)

    async def take(self, events: ChoiceEvents) -> None:
        """To the end, or from where this was left. Raises what ends a choice before it is
        complete.
        """
        async with events as happening:
            async for happened in happening:
                self._growing[happened.index].add(happened.event)

    def completed(self) -> list[CompletedChoice]:
        """By index, once `take` has come to the end."""
        return [self._growing[index].completed() for index in sorted(self._growing)]


async def completed_choices(events: ChoiceEvents) -> list[CompletedChoice]:
    """By index. Raises what ends a choice before it is complete."""
    growing = GrowingChoices()
    await growing.take(events)
    return growing.completed()


@dataclass(kw_only=True)
class _GrowingChoice:
    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: list[CompletedToolCall] = field(default_factory=list)
    tokens: list[SampledToken] | None = None
    finished: Finished | None = None
    unenforced: Sequence[str] = ()
    route: Route | None = None
    prompt_token_ids: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)

    def add(self, event: Event) -> None:
        if isinstance(event, Started):
            self.unenforced = event.unenforced
            self.route = event.route
            self.prompt_token_ids = event.prompt_token_ids
        elif isinstance(event, Finished):
            self.finished = event
        elif isinstance(event, Delta):
            self.texts.append(event.text)
            self.reasoning.append(event.reasoning)
            if event.tool_call is not None:
                self._add_tool_call(event.tool_call)
            if event.tokens is not None:
                self.tokens = [] if self.tokens is None else self.tokens
                self.tokens += event.tokens
            self.token_ids += event.token_ids or ()

    def _add_tool_call(self, part: ToolCallPart) -> None:
        if part.name:
            self.tool_calls.append(CompletedToolCall(part.id, part.name))
        self.tool_calls[part.index].arguments += part.arguments

    def completed(self) -> CompletedChoice:
        assert self.finished is not None, "a Client ends every choice with Finished, or raises"
        return CompletedChoice(
            finished=self.finished,
            text="".join(self.texts),
            tokens=self.tokens,
            reasoning="".join(self.reasoning),
            tool_calls=self.tool_calls,
            unenforced=self.unenforced,
            route=self.route,
            prompt_token_ids=self.prompt_token_ids,
            token_ids=self.token_ids,
        )
