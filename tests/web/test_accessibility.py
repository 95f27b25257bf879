"""No view has a serious fault by axe's rules, in light and in dark, wide and on a phone."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
from playwright.async_api import Page, expect

from appliance.api.app import create_app
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.api.serving import Serve
from tests.web.chat_page import ChatPage
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
    url = serve_page(create_app(MachineHouse().gateway()))
    page = await visits.open(f"{url}/#/machine", **LOOKS[look])
    await expect(page.get_by_role("list", name="Slots")).to_be_visible()
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
