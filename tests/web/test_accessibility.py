"""No view has a serious fault by axe's rules, in light and in dark, wide and on a phone."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from appliance.api.app import create_app
from tests.api.keys_house import KeysHouse
from tests.api.scripted_client import ANSWER as SHORT_ANSWER
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.api.scripted_library import NAME, ScriptedLibrary
from tests.api.serving import Serve
from tests.web.chat_page import ChatPage
from tests.web.keys_house import open_keys
from tests.web.line import Line
from tests.web.machine_house import MachineHouse
from tests.web.pictures import ANSWER, LOOKS
from tests.web.scripts import text_answer
from tests.web.visits import Visits

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize("look", LOOKS),
]

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


async def faults_of(page: Page) -> list[Any]:
    """What axe calls serious or critical."""
    await page.evaluate(AXE)
    found = await page.evaluate("axe.run({ resultTypes: ['violations'] })")
    return [
        (each["id"], [node["html"] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]


async def test_the_chat(visits: Visits, serve_page: Serve, look: str) -> None:
    client = ScriptedClient(*text_answer(ANSWER, reasoning="Line by line."))
    url = serve_page(create_app(gateway_around(client)))
    chat = ChatPage(await visits.open(url, **LOOKS[look]))
    await expect(chat.page.get_by_role("combobox", name="Model")).to_have_value("novels")
    assert await faults_of(chat.page) == []
    await chat.asked("How?")
    assert await faults_of(chat.page) == []
    await chat.button("Settings of this chat").click()
    assert await faults_of(chat.page) == []


async def test_the_machine(visits: Visits, serve_page: Serve, look: str) -> None:
    url = serve_page(create_app(MachineHouse().gateway(library=ScriptedLibrary())))
    page = await visits.open(f"{url}/#/machine", **LOOKS[look])
    await expect(page.get_by_role("list", name="Slots")).to_be_visible()
    await page.get_by_text("1 of 2 known models fit").click()
    await page.get_by_role("button", name=f"Choose {NAME}").click()
    await expect(page.get_by_role("button", name="Fetch 200 MiB")).to_be_visible()
    assert await faults_of(page) == []


async def test_usage(visits: Visits, serve_page: Serve, look: str) -> None:
    url = serve_page(create_app(MachineHouse().gateway()))
    page = await visits.open(f"{url}/#/usage", **LOOKS[look])
    await expect(page.get_by_role("alert")).to_be_visible()
    assert await faults_of(page) == []


async def test_the_dialog_for_the_key(visits: Visits, serve_page: Serve, look: str) -> None:
    url = serve_page(create_app(MachineHouse().gateway(keys=["secret"])))
    page = await visits.open(url, **LOOKS[look])
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await faults_of(page) == []


async def test_keys(visits: Visits, serve_page: Serve, look: str, tmp_path: Path) -> None:
    house = KeysHouse(tmp_path)
    await house.prepare()
    page = await open_keys(visits, serve_page, house, **LOOKS[look])
    await page.get_by_role("button", name="New key").click()
    assert await faults_of(page) == []
    await page.get_by_label("Name").fill("a b")
    await page.get_by_role("button", name="Make the key").click()
    await expect(page.get_by_role("dialog").get_by_role("alert")).to_be_visible()
    assert await faults_of(page) == []
    await page.get_by_label("Name").fill("carol")
    await page.get_by_role("button", name="Make the key").click()
    await expect(page.get_by_role("button", name="Copy", exact=True)).to_be_visible()
    assert await faults_of(page) == []
    await page.get_by_role("button", name="Done", exact=True).click()
    await page.get_by_role("button", name="Revoke carol").click()
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    await expect(page.get_by_text("revoked", exact=True)).to_be_visible()
    assert await faults_of(page) == []
    await house.close()


@pytest.mark.alone  # it is looked at while the page tries to go on, for half a minute
async def test_an_answer_whose_connection_broke(
    visits: Visits, serve_page: Serve, look: str
) -> None:
    client = ScriptedClient(*SHORT_ANSWER[:2], asyncio.Event())
    line = Line(serve_page(create_app(gateway_around(client), resume_s=60)))
    await line.mend()
    chat = ChatPage(await visits.open(line.url, breaks=True, **LOOKS[look]))
    await chat.ask("Tell me of it")
    await expect(chat.answer).to_have_text("It was")
    line.take_down()
    await expect(chat.page.get_by_text("The server is not reached. The page")).to_be_visible()
    assert await faults_of(chat.page) == []
    await chat.stop.click()
    await expect(chat.button("Continue")).to_be_visible()
    assert await faults_of(chat.page) == []
