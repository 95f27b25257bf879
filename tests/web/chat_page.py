"""The chat as a person uses it: what is typed, pressed and read. Knows no server."""

from __future__ import annotations

from playwright.async_api import Locator, Page, expect


class ChatPage:
    def __init__(self, page: Page) -> None:
        self.page = page
        self.text = page.get_by_role("textbox", name="Message", exact=True)
        self.messages = page.get_by_role("list", name="Messages").locator("> li")
        self.answers = page.locator(".message.assistant")
        self.stop = page.get_by_role("button", name="Stop", exact=True)

    async def ask(self, text: str) -> None:
        await self.text.fill(text)
        await self.text.press("Enter")

    @property
    def answer(self) -> Locator:
        """The text of the last answer."""
        return self.answers.last.locator("> .markdown")

    async def finished(self) -> None:
        await expect(self.answers.last).to_have_attribute("aria-busy", "false")
