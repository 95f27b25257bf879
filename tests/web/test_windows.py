"""Two windows of one browser with the same chats, and several answers at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.api.scripted_client import ANSWER, ChoosingClient
from tests.api.serving import Serve
from tests.web.chat_page import ChatPage
from tests.web.scripts import Counting, text_answer
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def beside(chat: ChatPage) -> ChatPage:
    """Another window on the same chats."""
    page = await chat.page.context.new_page()
    await page.goto(chat.page.url)
    return ChatPage(page)


async def test_a_turn_of_another_window_is_shown_and_gone_on_with(
    visits: Visits, serve_page: Serve
) -> None:
    client = Counting()
    one = await ChatPage.open(visits, serve_page, client)
    await one.asked("first")
    other = await beside(one)
    await expect(other.answer).to_have_text("answer 1")
    await one.asked("second")
    await expect(other.answer).to_have_text("answer 2")
    await other.asked("third")
    assert client.asked()[2:] == [("user", "second"), ("assistant", "answer 2"), ("user", "third")]
    await one.page.reload()
    await expect(one.messages).to_have_count(6)


async def test_what_two_windows_ask_at_once_are_branches(visits: Visits, serve_page: Serve) -> None:
    gate = asyncio.Event()
    slow = (*ANSWER[:2], gate, *ANSWER[2:])
    client = ChoosingClient(tuple(text_answer("begun")), slow, slow)
    one = await ChatPage.open(visits, serve_page, client)
    await one.asked("first")
    other = await beside(one)
    await expect(other.answer).to_have_text("begun")
    # neither window hears of the other before both have asked
    await asyncio.gather(one.ask("of ships"), other.ask("of whales"))
    for chat in (one, other):
        await expect(chat.messages.nth(2).locator(".of")).to_contain_text("of 2")
    gate.set()
    for chat in (one, other):
        await expect(chat.answer).to_have_text("It was a café…")
        await chat.finished()
    await one.page.reload()
    await expect(one.messages).to_have_count(4)
    await expect(one.messages.nth(2).locator(".of")).to_contain_text("of 2")


async def test_what_another_window_deletes_is_gone(visits: Visits, serve_page: Serve) -> None:
    one = await ChatPage.open(visits, serve_page, Counting())
    await one.asked("first")
    other = await beside(one)
    await expect(other.answer).to_have_text("answer 1")
    await one.button("Delete first").click()
    await one.button("Delete").click()
    await expect(other.messages).to_have_count(0)
    await other.asked("second")
    await expect(one.page.locator(".chat-title")).to_have_text(["second"])
    await one.button("Delete all").click()
    await one.page.get_by_role("dialog").get_by_role("button", name="Delete all").click()
    await expect(other.page.locator(".chat-title")).to_have_count(0)


async def test_an_answer_goes_on_while_another_chat_is_open(
    visits: Visits, serve_page: Serve
) -> None:
    gate = asyncio.Event()
    client = ChoosingClient((*ANSWER[:2], gate, *ANSWER[2:]), tuple(text_answer("four")))
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.ask("Tell me of it")
    await expect(chat.answer).to_have_text("It was")
    await chat.button("New chat").click()
    await expect(chat.stop).to_be_hidden()
    answering = chat.page.get_by_role("img", name="Is being answered")
    await expect(answering).to_be_visible()
    await chat.asked("2 + 2?")
    await expect(chat.answer).to_have_text("four")
    await chat.button("Tell me of it").click()
    await expect(chat.stop).to_be_visible()
    gate.set()
    await expect(chat.answer).to_have_text("It was a café…")
    await chat.finished()
    await expect(answering).to_be_hidden()
    await expect(chat.stop).to_be_hidden()


async def test_an_import_takes_nothing_away(
    visits: Visits, serve_page: Serve, tmp_path: Path
) -> None:
    chat = await ChatPage.open(visits, serve_page, Counting())
    await chat.asked("first")
    async with chat.page.expect_download() as download:
        await chat.button("Export").click()
    file = tmp_path / "chats.json"
    await (await download.value).save_as(file)
    await chat.asked("second")
    await chat.page.get_by_label("File of chats").set_input_files(file)
    await expect(chat.page.locator("#announcements")).to_have_text("1 chats imported")
    await expect(chat.messages).to_have_count(4)
    await chat.page.reload()
    await expect(chat.answer).to_have_text("answer 2")
