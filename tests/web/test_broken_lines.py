"""The connection breaks, or the server goes and comes again, under an open page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import expect

from appliance.api.app import create_app
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around
from tests.api.serving import Serve
from tests.web.chat_page import ChatPage
from tests.web.line import Line
from tests.web.machine_house import MachineHouse
from tests.web.scripts import said, text_answer
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")
BEGUN, REST = ANSWER[:2], ANSWER[2:]


@pytest_asyncio.fixture(loop_scope="session")
async def line() -> AsyncIterator[Line]:
    line = Line("")
    await line.mend()
    yield line
    line.take_down()


def serving(serve: Serve, client: ScriptedClient) -> str:
    return serve(create_app(gateway_around(client), resume_s=60))


async def begin(visits: Visits, line: Line) -> ChatPage:
    """A chat in the middle of its first answer."""
    chat = ChatPage(await visits.open(line.url, breaks=True))
    await chat.ask("Tell me of it")
    await expect(chat.answer).to_have_text("It was")
    return chat


async def test_an_answer_goes_on_where_its_connection_broke(
    visits: Visits, serve_page: Serve, line: Line
) -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*BEGUN, gate, *REST)
    line.target = serving(serve_page, client)
    chat = await begin(visits, line)
    gate.set()
    client.closed.clear()
    line.cut()
    await chat.finished()
    await expect(chat.answer).to_have_text("It was a café…")
    await expect(chat.answers.last.locator(".status")).to_be_hidden()
    await expect(chat.button("Continue")).to_be_hidden()
    assert len(client.requests) == 1


async def test_what_came_stays_and_is_gone_on_with_by_another_server(
    visits: Visits, serve_page: Serve, line: Line
) -> None:
    line.target = serving(serve_page, ScriptedClient(*BEGUN, asyncio.Event()))
    chat = await begin(visits, line)
    second = ScriptedClient(*text_answer(" a café", " by night"))
    line.target = serving(serve_page, second)
    line.cut()
    await chat.finished()
    await expect(chat.answer).to_have_text("It was")
    status = chat.answers.last.locator(".status")
    await expect(status).to_have_text("The connection broke, and the rest is not to be had.")
    await chat.page.reload()
    await expect(chat.answer).to_have_text("It was")
    await chat.button("Continue").click()
    await expect(chat.answer).to_have_text("It was a café by night")
    await chat.finished()
    await expect(status).to_be_hidden()
    assert said(second.requests[0]) == [("user", "Tell me of it"), ("assistant", "It was")]
    assert await chat.answers.count() == 1


async def test_the_page_recovers_when_the_server_is_there_again(
    visits: Visits, serve_page: Serve, line: Line
) -> None:
    line.target = serving(serve_page, ScriptedClient(*ANSWER))
    chat = ChatPage(await visits.open(line.url, breaks=True))
    await expect(chat.page.get_by_role("combobox", name="Model")).to_have_value("novels")
    line.take_down()
    gone = chat.page.get_by_text("The server is not reached. The page goes on")
    await chat.ask("Tell me of it")
    await expect(gone).to_be_visible()
    await expect(chat.answers.last.locator(".status")).to_contain_text("is not reached")
    line.target = serve_page(create_app(MachineHouse().gateway()))
    await line.mend()
    await expect(gone).to_be_hidden()
    await chat.page.get_by_role("link", name="Machine").click()
    await expect(chat.page.get_by_role("list", name="Slots")).to_be_visible()


async def test_a_view_that_was_opened_in_vain_is_filled_later(
    visits: Visits, serve_page: Serve, line: Line
) -> None:
    line.target = serving(serve_page, ScriptedClient(*ANSWER))
    chat = ChatPage(await visits.open(line.url, breaks=True))
    await expect(chat.page.get_by_role("combobox", name="Model")).to_have_value("novels")
    line.take_down()
    await chat.page.get_by_role("link", name="Usage").click()
    keys = chat.page.get_by_role("region", name="Keys", exact=True)
    await expect(keys.get_by_role("alert")).to_contain_text("is not reached")
    await line.mend()
    await expect(keys).to_contain_text("appliance keys create NAME --admin")
    await expect(keys.get_by_role("alert")).to_be_hidden()
