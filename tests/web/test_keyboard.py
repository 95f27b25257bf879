"""Everything can be reached and done by keys alone; the theme is the user's."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.api.serving import Serve
from tests.web.chat_page import ChatPage
from tests.web.scripts import Counting
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOCUSED = "document.activeElement.ariaLabel ?? document.activeElement.textContent"


async def tab_to(page: Page, name: str, most: int = 40) -> None:
    """Presses Tab until what is called so has the focus."""
    seen = []
    for _ in range(most):
        await page.keyboard.press("Tab")
        seen.append(await page.evaluate(FOCUSED))
        if seen[-1] == name:
            return
    raise AssertionError(f"{name} is not among {seen}")


async def test_a_chat_by_keys_alone(visits: Visits, serve_page: Serve) -> None:
    client = Counting()
    chat = await ChatPage.open(visits, serve_page, client)
    page = chat.page
    await expect(chat.text).to_be_focused()
    await page.keyboard.type("first")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("line")
    await page.keyboard.press("Enter")
    await expect(chat.answer).to_have_text("answer 1")
    assert client.asked() == [("user", "first\nline")]
    await tab_to(page, "Settings of this chat")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("System prompt")).to_be_focused()
    await page.keyboard.press("Escape")
    await tab_to(page, "Answer again")
    await page.keyboard.press("Enter")
    await expect(chat.answer).to_have_text("answer 2")
    await tab_to(page, "Usage")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Keys and usage")).to_be_visible()


async def test_the_first_tab_leads_past_the_bar(visits: Visits, serve_page: Serve) -> None:
    chat = await ChatPage.open(visits, serve_page, Counting())
    await expect(chat.text).to_be_focused()
    await chat.page.evaluate("document.activeElement.blur()")
    await tab_to(chat.page, "Skip to the content")


async def test_the_theme_is_the_systems_until_it_is_chosen(
    visits: Visits, serve_page: Serve
) -> None:
    chat = await ChatPage.open(visits, serve_page, Counting())
    ground = "getComputedStyle(document.body).backgroundColor"
    light = await chat.page.evaluate(ground)
    await chat.page.emulate_media(color_scheme="dark")
    dark = await chat.page.evaluate(ground)
    assert light != dark
    await chat.button("Light or dark").click()
    assert await chat.page.evaluate(ground) == light
    await chat.page.reload()
    assert await chat.page.evaluate(ground) == light
