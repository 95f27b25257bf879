"""Answers again, edited messages, and the way between the branches that these make."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.api.serving import Serve
from tests.web.chat_page import ChatPage
from tests.web.scripts import Counting
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_answer_again_is_a_branch(visits: Visits, serve_page: Serve) -> None:
    client = Counting()
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.asked("first")
    await chat.button("Answer again").click()
    await expect(chat.answer).to_have_text("answer 2")
    assert client.asked() == [("user", "first")]
    await expect(chat.answers.last.locator(".of")).to_have_text("2 of 2")
    await chat.button("The one before").click()
    await expect(chat.answer).to_have_text("answer 1")
    await chat.asked("second")
    assert client.asked() == [("user", "first"), ("assistant", "answer 1"), ("user", "second")]
    await chat.button("The next one").click()
    await expect(chat.messages).to_have_count(2)
    await expect(chat.answer).to_have_text("answer 2")
    await chat.page.reload()
    await expect(chat.answer).to_have_text("answer 2")
    await chat.button("The one before").click()
    await expect(chat.messages).to_have_count(4)


async def test_an_edited_message_is_a_branch(visits: Visits, serve_page: Serve) -> None:
    client = Counting()
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.asked("first")
    await chat.text.press("ArrowUp")
    editor = chat.page.get_by_role("textbox", name="Edited message")
    await expect(editor).to_have_value("first")
    await editor.fill("thought over")
    await editor.press("Escape")
    await expect(chat.messages.first).to_contain_text("first")
    await chat.button("Edit").click()
    await editor.fill("thought over")
    await chat.button("Send as a branch").click()
    await expect(chat.answer).to_have_text("answer 2")
    assert client.asked() == [("user", "thought over")]
    await expect(chat.messages.first.locator(".of")).to_have_text("2 of 2")
    await chat.button("The one before").click()
    await expect(chat.answer).to_have_text("answer 1")
