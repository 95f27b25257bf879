"""Answers for the page to show. Knows no page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from appliance.protocol.events import Delta, Event, Finished, FinishReason, Started, Usage
from appliance.protocol.requests import ChatPrompt, GenerateRequest
from tests.api.scripted_client import ScriptedClient


def text_answer(*texts: str, reasoning: str = "") -> list[Event]:
    deltas = [Delta(request_id=1, text=text, num_tokens=1) for text in texts]
    if reasoning:
        deltas.insert(0, Delta(request_id=1, text="", reasoning=reasoning, num_tokens=1))
    usage = Usage(num_prompt_tokens=5, num_cached_tokens=2, num_completion_tokens=len(deltas))
    return [Started(1, 5), *deltas, ended(usage)]


def ended(usage: Usage) -> Finished:
    return Finished(request_id=1, reason=FinishReason.STOP, usage=usage)


class Counting(ScriptedClient):
    """Answers `answer 1`, `answer 2` and so on, and keeps what it was asked."""

    async def generate(
        self, request: GenerateRequest, on_computed: object = None
    ) -> AsyncIterator[Event]:
        self.requests.append(request)
        for event in text_answer(f"answer {len(self.requests)}"):
            yield event

    def asked(self, at: int = -1) -> list[tuple[str, str]]:
        """Role and text of each message of a request."""
        return said(self.requests[at])


def said(request: GenerateRequest) -> list[tuple[str, str]]:
    prompt = request.prompt
    assert isinstance(prompt, ChatPrompt)
    return [(each["role"], each["content"]) for each in prompt.messages]


def pieces(text: str, size: int) -> Sequence[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]
