"""Nothing moves where that is asked for, and nothing is wider than a small phone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from appliance.api.app import create_app
from tests.api.keys_house import KeysHouse
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around
from tests.api.scripted_library import NAME, ScriptedLibrary
from tests.api.serving import Serve
from tests.web.chat_page import ChatPage
from tests.web.keys_house import open_keys
from tests.web.machine_house import MachineHouse
from tests.web.pictures import ANSWER as LONG_ANSWER
from tests.web.scripts import text_answer
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")
SMALL = {"viewport": {"width": 360, "height": 640}}
# What may be pushed aside on its own, such as a table, may be wide.
_TOO_WIDE = """[...document.querySelectorAll("body *")]
  .filter((each) => each.getBoundingClientRect().width > 0
    && each.getBoundingClientRect().right > innerWidth + 1 && !each.closest(".table, pre"))
  .map((each) => each.outerHTML.slice(0, 100))"""


async def too_wide(page: Page) -> object:
    """Elements that reach beyond the window, and by how much it can be pushed aside."""
    return await page.evaluate(f"[{_TOO_WIDE}, document.documentElement.scrollWidth - innerWidth]")


@pytest.mark.parametrize(("motion", "is_moving"), [("no-preference", True), ("reduce", False)])
async def test_what_waits_breathes_unless_motion_is_to_be_reduced(
    visits: Visits, serve_page: Serve, motion: str, is_moving: bool
) -> None:
    gate = asyncio.Event()
    client = ScriptedClient(ANSWER[0], gate, *ANSWER[1:])
    url = serve_page(create_app(gateway_around(client)))
    chat = ChatPage(await visits.open(url, reduced_motion=motion))
    await chat.ask("Tell me of it")
    await expect(chat.answers.last.locator(".status")).to_be_visible()
    await chat.button("Settings of this chat").click()
    running = await chat.page.evaluate("document.getAnimations().length")
    assert (running > 0) is is_moving
    gate.set()
    await chat.finished()


async def test_the_chat_on_a_small_phone(visits: Visits, serve_page: Serve) -> None:
    url = serve_page(create_app(gateway_around(ScriptedClient(*text_answer(LONG_ANSWER)))))
    chat = ChatPage(await visits.open(url, **SMALL))
    await chat.asked("a" * 300)
    assert await too_wide(chat.page) == [[], 0]
    await chat.button("Settings of this chat").click()
    assert await too_wide(chat.page) == [[], 0]


async def test_the_machine_on_a_small_phone(visits: Visits, serve_page: Serve) -> None:
    url = serve_page(create_app(MachineHouse().gateway(library=ScriptedLibrary())))
    page = await visits.open(f"{url}/#/machine", **SMALL)
    await page.get_by_text("1 of 2 known models fit").click()
    await page.get_by_role("button", name=f"Choose {NAME}").click()
    await expect(page.get_by_role("button", name="Fetch 200 MiB")).to_be_visible()
    assert await too_wide(page) == [[], 0]


async def test_keys_on_a_small_phone(visits: Visits, serve_page: Serve, tmp_path: Path) -> None:
    house = KeysHouse(tmp_path)
    await house.prepare()
    await house.accounts.administration.create("n" * 64, {"models": ("m" * 60,)})
    page = await open_keys(visits, serve_page, house, **SMALL)
    await expect(page.get_by_role("button", name="New key")).to_be_visible()
    assert await too_wide(page) == [[], 0]
    await page.get_by_role("button", name="New key").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await too_wide(page) == [[], 0]
    await house.close()


async def test_words_in_a_wide_table_stay_whole(visits: Visits, serve_page: Serve) -> None:
    words = ["Language", "Expressiveness", "Performance", "Concurrency", "Ecosystem"]
    row = f"| {' | '.join(words)} |"
    table = f"{row}\n{'|---' * len(words)}|\n{row}\n"
    url = serve_page(create_app(gateway_around(ScriptedClient(*text_answer(table)))))
    chat = ChatPage(await visits.open(url, **SMALL))
    await chat.asked("Compare them")
    boxes = chat.page.get_by_role("group", name="Table")
    assert await boxes.evaluate("each => each.scrollWidth > each.clientWidth")
    heights = "each => new Set([...each.querySelectorAll('td')].map(e => e.offsetHeight)).size"
    assert await boxes.evaluate(heights) == 1
    assert await too_wide(chat.page) == [[], 0]
