"""Everything can be reached and done by keys alone; the theme is the user's."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from appliance.api.app import create_app
from tests.api.keys_house import KeysHouse
from tests.api.scripted_library import NAME, ScriptedLibrary
from tests.api.serving import Serve
from tests.web.chat_page import ChatPage
from tests.web.keys_house import open_keys
from tests.web.machine_house import MachineHouse
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


async def test_models_are_unloaded_and_looked_for_by_keys_alone(
    visits: Visits, serve_page: Serve
) -> None:
    library = ScriptedLibrary()
    url = serve_page(create_app(MachineHouse().gateway(library=library)))
    page = await visits.open(f"{url}/#/machine")
    await expect(page.get_by_role("list", name="Slots")).to_be_visible()
    await tab_to(page, "Unload novels")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Unload novels")).to_be_focused()
    await expect(page.get_by_text("1 of 2 known models fit")).to_be_visible()
    await tab_to(page, "Look")
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.type(NAME)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Fetch 200 MiB")).to_be_visible()
    await tab_to(page, "Fetch 200 MiB")
    await page.keyboard.press("Enter")
    await tab_to(page, "Cancel")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Cancelled. What has arrived is kept.")).to_be_visible()


async def test_keys_are_made_by_keys_alone(
    visits: Visits, serve_page: Serve, tmp_path: Path
) -> None:
    house = KeysHouse(tmp_path)
    await house.prepare()
    page = await open_keys(visits, serve_page, house)
    await expect(page.get_by_role("button", name="Rotate alice")).to_be_visible()
    await tab_to(page, "New key")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Name")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="New key")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Name")).to_be_focused()
    await page.keyboard.type("carol")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Copy", exact=True)).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_contain_text("It is not copied yet.")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await tab_to(page, "Revoke carol")
    await page.keyboard.press("Enter")
    await tab_to(page, "Revoke")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("region", name="Key carol")).to_contain_text("revoked")
    await house.close()


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
