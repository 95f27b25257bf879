"""Several chats in one browser: opened, renamed, deleted, taken elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.api.serving import Serve
from tests.web.chat_page import ChatPage
from tests.web.scripts import Counting
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def two_chats(visits: Visits, serve: Serve) -> ChatPage:
    chat = await ChatPage.open(visits, serve, Counting())
    await chat.asked("about whales")
    await chat.button("New chat").click()
    await expect(chat.messages).to_have_count(0)
    await chat.asked("about ships")
    return chat


async def test_chats_are_opened_renamed_and_deleted(visits: Visits, serve_page: Serve) -> None:
    chat = await two_chats(visits, serve_page)
    titles = chat.page.locator(".chat-title")
    await expect(titles).to_have_text(["about ships", "about whales"])
    await chat.button("about whales").click()
    await expect(chat.answer).to_have_text("answer 1")
    await chat.button("Rename about whales").click()
    name = chat.page.get_by_role("textbox", name="Name of the chat")
    await name.fill("Whales")
    await name.press("Enter")
    await expect(chat.button("Whales")).to_be_visible()
    await chat.page.reload()
    await expect(chat.button("Whales")).to_be_visible()
    await chat.button("Delete Whales").click()
    await chat.button("Cancel").click()
    await chat.button("Delete Whales").click()
    await chat.button("Delete").click()
    await expect(titles).to_have_text(["about ships"])
    await expect(chat.answer).to_have_text("answer 2")


async def test_chats_are_taken_to_another_browser(
    visits: Visits, serve_page: Serve, tmp_path: Path
) -> None:
    chat = await two_chats(visits, serve_page)
    async with chat.page.expect_download() as download:
        await chat.button("Export").click()
    file = tmp_path / "chats.json"
    await (await download.value).save_as(file)
    assert [each["title"] for each in json.loads(file.read_text())["chats"]] == [
        "about ships",
        "about whales",
    ]
    other = await ChatPage.open(visits, serve_page, Counting())
    await other.page.get_by_label("File of chats").set_input_files(file)
    await expect(other.page.locator(".chat-title")).to_have_text(["about ships", "about whales"])
    await expect(other.answer).to_have_text("answer 2")
    await other.button("Delete all").click()
    await other.page.get_by_role("dialog").get_by_role("button", name="Delete all").click()
    await expect(other.page.locator(".chat-title")).to_have_count(0)
    await other.page.reload()
    await expect(other.page.locator(".chat-title")).to_have_count(0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "This file is not JSON."),
        ("{}", "This file holds no chats of this page."),
        (
            '{"format": "appliance-chats", "chats": [{"id": "a", "messages": {"m": {}}}]}',
            "Chat 1 of this file is broken, so none was imported.",
        ),
        (
            '{"format": "appliance-chats", "chats": [{"id": "a", "messages": {"m": {"id": "m", '
            '"role": "user", "content": "", "created": 1, "parent": "m"}}}]}',
            "Chat 1 of this file is broken, so none was imported.",
        ),
    ],
    ids=["no JSON", "another format", "no message", "a circle"],
)
async def test_a_broken_file_is_refused(
    visits: Visits, serve_page: Serve, tmp_path: Path, text: str, said: str
) -> None:
    chat = await ChatPage.open(visits, serve_page, Counting())
    file = tmp_path / "chats.json"
    file.write_text(text)
    await chat.page.get_by_label("File of chats").set_input_files(file)
    await expect(chat.page.get_by_role("alert")).to_have_text([said])
