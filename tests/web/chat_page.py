"""The chat as a person uses it: what is typed, pressed and read."""

from __future__ import annotations

from playwright.async_api import Locator, Page, expect

from appliance.api.app import create_app
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.api.serving import Serve
from tests.web.visits import Visits


class ChatPage:
    def __init__(self, page: Page) -> None:
        self.page = page
        self.text = page.get_by_role("textbox", name="Message", exact=True)
        self.messages = page.get_by_role("list", name="Messages").locator("> li")
        self.answers = page.locator(".message.assistant")
        self.stop = page.get_by_role("button", name="Stop", exact=True)

    @classmethod
    async def open(
        cls, visits: Visits, serve: Serve, client: ScriptedClient, keys: list[str] | None = None
    ) -> ChatPage:
        app = create_app(gateway_around(client, keys or []), resume_s=30)  # as it is served
        return cls(await visits.open(serve(app)))

    async def ask(self, text: str) -> None:
        await self.text.fill(text)
        await self.text.press("Enter")

    @property
    def answer(self) -> Locator:
        """The text of the last answer."""
        return self.answers.last.locator("> .markdown")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    async def asked(self, text: str) -> None:
        """Asks, and waits for the whole answer."""
        count = await self.answers.count()
        await self.ask(text)
        await expect(self.answers).to_have_count(count + 1)
        await self.finished()

    async def finished(self) -> None:
        await expect(self.answers.last).to_have_attribute("aria-busy", "false")
