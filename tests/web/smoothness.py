"""How smooth the page stays while a long answer streams: `python -m tests.web.smoothness`.

Prints frames a second, as the page's own animation frames count them, for answers of
10,000 tokens in several shapes. A measurement, not a test: it depends on the machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from playwright.async_api import Page, async_playwright, expect

from appliance.api.app import create_app
from appliance.protocol.events import Event, Started
from appliance.protocol.requests import GenerateRequest
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.api.serving import servers
from tests.web.browsers import chromium, options
from tests.web.chat_page import ChatPage
from tests.web.scripts import text_answer

NUM_TOKENS = 10_000
TOKENS_PER_STEP = 10
STEP_S = 0.01  # ten times as fast as a small model on a CPU

_SENTENCE = "the ship was still at sea and nobody on board had seen the land for days "
_COUNT_FRAMES = """
() => {
  window.frames_ = [];
  const count = (time) => {
    window.frames_.push(time);
    window.isOver || requestAnimationFrame(count);
  };
  requestAnimationFrame(count);
}
"""
_SUM_UP = """
() => {
  window.isOver = true;
  const gaps = window.frames_.slice(1).map((time, at) => time - window.frames_[at]);
  gaps.sort((one, other) => one - other);
  const total = gaps.reduce((sum, gap) => sum + gap, 0);
  return [gaps.length * 1000 / total, gaps[Math.floor(gaps.length * 0.99)], gaps.at(-1)];
}
"""


def tokens(shape: str) -> list[str]:
    """Words, with what the shape puts between them."""
    before = {"code": "```python\n"}.get(shape, "")
    every = {
        "prose": (60, "\n\n"),
        "list": (12, "\n- "),
        "code": (8, "\n"),
        "one paragraph": (0, ""),
    }
    words = _SENTENCE.split()
    count, between = every[shape]
    found = [before]
    for at in range(NUM_TOKENS - 1):
        found.append(between if count and at % count == 0 and at else f"{words[at % len(words)]} ")
    return found


class Fast(ScriptedClient):
    async def generate(
        self, request: GenerateRequest, on_computed: object = None
    ) -> AsyncIterator[Event]:
        async for event in super().generate(request, on_computed):
            if not isinstance(event, Started):
                await asyncio.sleep(STEP_S)
            yield event


async def measure(page: Page) -> tuple[float, float, float]:
    chat = ChatPage(page)
    await chat.ask("Tell me all of it")
    await expect(chat.stop).to_be_visible()
    await page.evaluate(_COUNT_FRAMES)
    await expect(chat.stop).to_be_hidden(timeout=120_000)
    per_s, p99_ms, longest_ms = await page.evaluate(_SUM_UP)
    return per_s, p99_ms, longest_ms


async def main() -> None:
    async with servers() as serve, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=options())
        for shape in ("prose", "list", "code", "one paragraph"):
            words = tokens(shape)
            steps = [
                "".join(words[at : at + TOKENS_PER_STEP])
                for at in range(0, len(words), TOKENS_PER_STEP)
            ]
            page = await browser.new_page()
            await page.goto(serve(create_app(gateway_around(Fast(*text_answer(*steps))))))
            per_s, p99_ms, longest_ms = await measure(page)
            print(
                f"{shape:<14}{per_s:5.1f} frames/s, "
                f"99 % within {p99_ms:.0f} ms, longest {longest_ms:.0f} ms"
            )
            await page.close()
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
