"""One answer of a server, piece by piece, with what it took.

Knows OpenAI's stream of chunks, and no terminal.

Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from appliance.cli.running_server import RunningServer, reason_of
from appliance.errors import ApplianceError

_PATH = "/v1/chat/completions"
# between two signs of life; ours sends some every --sse-keep-alive-s, others none while
# they compute a long prompt
_SILENCE_S = 1800.0


@dataclass(frozen=True)
class Piece:
    text: str
    is_reasoning: bool = False


@dataclass(kw_only=True)
class Answer:
    """Grows while it is read. Times are in seconds since the request was sent."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None  # None: it was stopped
    num_tokens: int | None = None
    num_prompt_tokens: int | None = None
    num_cached_tokens: int = 0
    first_token_s: float | None = None
    last_token_s: float | None = None

    @property
    def tokens_per_s(self) -> float | None:
        """From the first token to the last: the prompt's time is not in it."""
        if self.num_tokens is None or self.num_tokens < 2:
            return None
        assert self.first_token_s is not None
        assert self.last_token_s is not None
        took_s = self.last_token_s - self.first_token_s
        return (self.num_tokens - 1) / took_s if took_s > 0 else None

    def take(self, chunk: dict[str, Any], at_s: float) -> Iterator[Piece]:
        usage = chunk.get("usage")
        if usage:
            self.num_tokens = usage["completion_tokens"]
            self.num_prompt_tokens = usage["prompt_tokens"]
            details = usage.get("prompt_tokens_details") or {}
            self.num_cached_tokens = details.get("cached_tokens") or 0
        for choice in chunk.get("choices", ()):
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            delta = choice.get("delta", {})
            text = delta.get("content") or ""
            reasoning = delta.get("reasoning_content") or delta.get("reasoning") or ""
            if text or reasoning:
                self.first_token_s = at_s if self.first_token_s is None else self.first_token_s
                self.last_token_s = at_s
            if reasoning:
                self.reasoning += reasoning
                yield Piece(reasoning, is_reasoning=True)
            if text:
                self.text += text
                yield Piece(text)


def pieces(
    server: RunningServer,
    request: dict[str, Any],
    answer: Answer,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Piece, None, None]:
    """Fills `answer`. Where the iterator is closed early, so is the connection, and the
    server stops computing.

    Raises `ApplianceError` if no server answers, it refuses, or its stream breaks.
    """
    began = clock()
    with server.asked("POST", _PATH, record=request, timeout_s=_SILENCE_S) as response:
        if response.status != http.client.OK:
            raise ApplianceError(reason_of(response))
        for chunk in _chunks(response):
            yield from answer.take(chunk, clock() - began)


def _chunks(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    while line := _next_line(response):
        if not line.startswith(b"data:"):
            continue  # the end of an event, or a comment that keeps the connection alive
        payload = line.removeprefix(b"data:").strip()
        if payload == b"[DONE]":
            return
        chunk = json.loads(payload)
        if error := chunk.get("error"):
            raise ApplianceError(str(error.get("message", error)))
        yield chunk
    raise ApplianceError("The server ended the answer in its middle.")


def _next_line(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.readline()
    except (OSError, http.client.HTTPException) as error:
        raise ApplianceError(f"The server is gone: {error}.") from error
