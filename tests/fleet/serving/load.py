"""Requests to a fleet, and what became of each: an answer, an error that says why, or neither."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

ANSWERED, REFUSED, BROKEN = "answered", "refused", "broken"
_TIMEOUT_S = 240.0


@dataclass
class Outcomes:
    """Of many requests."""

    counts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    texts: dict[str, set[str]] = field(default_factory=dict)  # answers by prompt
    first_s: list[float] = field(default_factory=list)  # to the first token, of streams
    num_cached_tokens: int = 0
    num_prompt_tokens: int = 0
    num_tokens: int = 0

    def note(self, what: str, error: str = "") -> None:
        self.counts[what] += 1
        if error:
            self.errors[error] += 1


class Load:
    """So many requests, so many of them at once, in turn to each of `urls`; and more, as long
    as `goes_on`.
    """

    def __init__(
        self, urls: Sequence[str], num: int, num_at_once: int, *, max_tokens: int = 48
    ) -> None:
        self.outcomes = Outcomes()
        self.num_done = 0
        self.goes_on = False
        self._urls = urls
        self._num = num
        self._num_at_once = num_at_once
        self._num_asked = 0
        self._max_tokens = max_tokens

    async def run(self) -> Outcomes:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, limits=limits) as http:
            await asyncio.gather(*(self._ask_on(http) for _ in range(self._num_at_once)))
        return self.outcomes

    async def _ask_on(self, http: httpx.AsyncClient) -> None:
        while self._num_asked < self._num or self.goes_on:
            self._num_asked += 1
            await self._ask(http, self._num_asked)

    async def _ask(self, http: httpx.AsyncClient, number: int) -> None:
        """Every second one as a stream."""
        prompt = f"It was a cold night, and number {number % 7} of the"
        body = {"prompt": prompt, "max_tokens": self._max_tokens, "temperature": 0}
        body["ignore_eos"] = True
        url = f"{self._urls[number % len(self._urls)]}/v1/completions"
        try:
            text = await (self._streamed if number % 2 else self._whole)(http, url, body)
        except httpx.HTTPError as error:
            self.outcomes.note(BROKEN, f"{type(error).__name__}: {error}")
            text = None
        if text is not None:
            self.outcomes.texts.setdefault(prompt, set()).add(text)
        self.num_done += 1

    async def _whole(self, http: httpx.AsyncClient, url: str, body: dict[str, Any]) -> str | None:
        response = await http.post(url, json=body)
        if response.status_code != 200:
            self.outcomes.note(*_refusal(response.status_code, response.text))
            return None
        record = response.json()
        self.outcomes.note(ANSWERED)
        self._count(record["usage"])
        return str(record["choices"][0]["text"])

    async def _streamed(
        self, http: httpx.AsyncClient, url: str, body: dict[str, Any]
    ) -> str | None:
        began_s, text, ends = time.monotonic(), "", 0
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        async with http.stream("POST", url, json=body) as response:
            if response.status_code != 200:
                await response.aread()
                self.outcomes.note(*_refusal(response.status_code, response.text))
                return None
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                data = line.removeprefix("data: ")
                if data == "[DONE]":
                    self.outcomes.note(ANSWERED if ends == 1 else BROKEN, "" if ends == 1 else text)
                    return text
                record = json.loads(data)
                if "error" in record:
                    self.outcomes.note(REFUSED, record["error"]["message"])
                    return None
                if not text and record["choices"]:
                    self.outcomes.first_s.append(time.monotonic() - began_s)
                for choice in record["choices"]:
                    text += choice["text"]
                    ends += choice["finish_reason"] is not None
                if record.get("usage"):
                    self._count(record["usage"])
        self.outcomes.note(BROKEN, f"the stream ended after {text!r}")
        return None

    def _count(self, usage: dict[str, Any]) -> None:
        self.outcomes.num_tokens += usage["completion_tokens"]
        self.outcomes.num_prompt_tokens += usage["prompt_tokens"]
        self.outcomes.num_cached_tokens += usage["prompt_tokens_details"]["cached_tokens"]


def _refusal(status: int, text: str) -> tuple[str, str]:
    """An error of ours is JSON, and says why."""
    try:
        return REFUSED, f"{status} {json.loads(text)['error']['message']}"
    except (ValueError, KeyError, TypeError):
        return BROKEN, f"{status} {text[:200]}"
