"""Makes the pictures of the docs: each view, light, dark and on a phone.

`python -m tests.web.pictures` writes docs/pictures/page-*.png, or into the folder named.
Knows what is shown, and no view's inside.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from playwright.async_api import Browser, Page, async_playwright, expect

from appliance.api.app import create_app
from appliance.protocol.events import Delta, Event, Finished, FinishReason, Started, Usage
from appliance.protocol.requests import GenerateRequest
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.api.serving import servers
from tests.serve.server import Server, environment, free_port
from tests.web.browsers import chromium, options
from tests.web.chat_page import ChatPage

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 760}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 760}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 780}},
}
SECONDS_A_TOKEN = 0.025
QUESTION = "How do I find the longest line of a file in Python?"
ANSWER = """Read it line by line, so that even a large file takes little memory:

```python
from pathlib import Path

def longest_line(path: Path) -> str:
    # a generator: only one line is held at a time
    with path.open(encoding="utf-8") as file:
        return max(file, key=len, default="").rstrip("\\n")
```

| | memory | time |
|---|---|---|
| `max(file, key=len)` | one line | one pass |
| `sorted(file, key=len)` | the whole file | *n* log *n* |

Of several lines of the same length, `max` gives the **first**."""


class Paced(ScriptedClient):
    """As fast as a small model, so that the page's numbers are those of one."""

    async def generate(
        self, request: GenerateRequest, on_computed: object = None
    ) -> AsyncIterator[Event]:
        async for event in super().generate(request, on_computed):
            await asyncio.sleep(SECONDS_A_TOKEN)
            yield event


def script() -> ScriptedClient:
    words = ANSWER.split(" ")
    deltas = [Delta(request_id=1, text=f"{word} ", num_tokens=1) for word in words]
    thought = Delta(
        request_id=1, text="", num_tokens=1, reasoning="A file object gives its lines one by one."
    )
    usage = Usage(num_prompt_tokens=412, num_cached_tokens=384, num_completion_tokens=len(words))
    end = Finished(request_id=1, reason=FinishReason.STOP, usage=usage)
    return Paced(Started(1, 412), thought, *deltas, end)


async def chat(page: Page) -> None:
    shown = ChatPage(page)
    await shown.ask(QUESTION)
    await shown.finished()


async def machine(page: Page) -> None:
    await expect(page.get_by_role("progressbar").first).to_be_visible()


async def usage(page: Page) -> None:
    await expect(page.get_by_role("rowheader").first).to_be_visible()
    await expect(page.get_by_role("region", name="Key agents")).to_be_visible()


Shown = Callable[[Page], Awaitable[None]]


@dataclass(frozen=True)
class Drawings:
    """Of views in every look, in one folder."""

    browser: Browser
    folder: Path

    async def of(self, url: str, view: str, show: Shown, key: str = "") -> None:
        for look, context in LOOKS.items():
            page = await self.browser.new_page(**context)  # type: ignore[arg-type]
            await page.add_init_script(f"sessionStorage.setItem('appliance.key', '{key}')")
            await page.goto(f"{url}/#/{view}")
            await show(page)
            await page.screenshot(path=self.folder / f"page-{view}-{look}.png")
            await page.close()


KEYS = {
    "root": ["--admin"],
    "alice": ["--tokens-per-day", "5000", "--expires", "90d"],
    "agents": ["--requests-per-minute", "30", "--concurrent-requests", "2", "--priority", "5"],
}


@contextmanager
def real_server() -> Iterator[tuple[str, dict[str, str]]]:
    """`appliance serve` with its default model and a home of its own; its URL and keys."""
    with tempfile.TemporaryDirectory() as home:
        port = free_port()
        appliance, settings = [sys.executable, "-m", "appliance"], environment(Path(home))
        keys = {}
        for name, flags in KEYS.items():
            command = [*appliance, "keys", "create", name, *flags]
            made = subprocess.run(command, env=settings, check=True, capture_output=True)
            keys[name] = made.stdout.decode().strip()
        command = [*appliance, "serve", "--no-tune", "--port", str(port)]
        server = Server(command, port, settings, Path(home))
        try:
            server.await_line(" ready: ")
            yield server.url, keys
        finally:
            server.end()


async def work(url: str, keys: dict[str, str], asked: asyncio.Event) -> None:
    """Some requests, one after the other with one beginning, then two at once, while which
    `asked` is set.
    """
    async with httpx.AsyncClient(base_url=url, timeout=600) as http:

        def ask(question: str, max_tokens: int, name: str = "alice") -> Awaitable[httpx.Response]:
            system = {"role": "system", "content": "You know ships and the sea. " * 12}
            messages = [system, {"role": "user", "content": question}]
            body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0}
            headers = {"Authorization": f"Bearer {keys[name]}"}
            return http.post("/v1/chat/completions", json=body, headers=headers)

        for question in ("What is a keel?", "What is a mast?", "What is a log?"):
            (await ask(question, 12)).raise_for_status()
        asked.set()
        await asyncio.gather(ask("Tell of a storm.", 600, "agents"), ask("Tell of a calm.", 600))


async def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    async with servers() as serve, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=options())
        drawings = Drawings(browser, folder)
        await drawings.of(serve(create_app(gateway_around(script()))), "chat", chat)
        with real_server() as (url, keys):
            asked = asyncio.Event()
            working = asyncio.create_task(work(url, keys, asked))
            await asked.wait()
            await drawings.of(url, "machine", machine, keys["root"])
            working.cancel()
            await drawings.of(url, "usage", usage, keys["root"])
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES))
