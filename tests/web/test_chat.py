"""A chat in a browser: it streams, stops, and is there again after a reload."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import expect

from appliance.errors import PromptTooLong
from appliance.protocol.events import Delta, Usage
from tests.api.scripted_client import ANSWER, ChoosingClient, ScriptedClient
from tests.api.serving import Serve
from tests.web.chat_page import ChatPage
from tests.web.scripts import said, text_answer
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_answer_streams_and_its_numbers_are_told(
    visits: Visits, serve_page: Serve
) -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*ANSWER[:2], gate, *ANSWER[2:])
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.ask("Tell me of it")
    await expect(chat.answer).to_have_text("It was")
    await expect(chat.stop).to_be_visible()
    gate.set()
    await expect(chat.answer).to_have_text("It was a café…")
    await chat.finished()
    stats = chat.answers.last.locator(".stats")
    await expect(stats).to_contain_text("5 tokens")
    await expect(stats).to_contain_text("2 of 5 prompt tokens cached")
    await expect(stats).to_contain_text("first after")
    await expect(chat.stop).to_be_hidden()


async def test_stop_cancels_the_request_on_the_server(visits: Visits, serve_page: Serve) -> None:
    so_far = Usage(num_prompt_tokens=5, num_cached_tokens=2, num_completion_tokens=2)
    begun = Delta(request_id=1, text="It was", num_tokens=2, usage=so_far)
    client = ScriptedClient(ANSWER[0], begun, asyncio.Event())
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.ask("Tell me of it")
    await expect(chat.answer).to_have_text("It was")
    await chat.stop.click()
    await client.closed.wait()
    await chat.finished()
    await expect(chat.answers.last.locator(".status")).to_have_text("Stopped.")
    stats = chat.answers.last.locator(".stats")
    await expect(stats).to_contain_text("2 tokens")
    await expect(stats).to_contain_text("2 of 5 prompt tokens cached")
    await expect(chat.text).to_be_focused()


async def test_a_reload_keeps_the_chat_and_a_new_turn_sends_all_of_it(
    visits: Visits, serve_page: Serve
) -> None:
    client = ScriptedClient(*ANSWER)
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.ask("Tell me of it")
    await chat.finished()
    await chat.page.reload()
    await expect(chat.messages).to_have_count(2)
    await expect(chat.answer).to_have_text("It was a café…")
    await chat.ask("And then?")
    await expect(chat.messages).to_have_count(4)
    await chat.finished()
    assert said(client.requests[1]) == [
        ("user", "Tell me of it"),
        ("assistant", "It was a café…"),
        ("user", "And then?"),
    ]


async def test_an_answer_goes_on_over_a_reload(visits: Visits, serve_page: Serve) -> None:
    before, after = asyncio.Event(), asyncio.Event()
    client = ScriptedClient(*ANSWER[:2], before, after, *ANSWER[2:])
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.ask("Tell me of it")
    await expect(chat.answer).to_have_text("It was")
    await chat.page.reload()  # which interrupts the script where it stands
    await expect(chat.answer).to_have_text("It was")
    await expect(chat.stop).to_be_visible()
    after.set()
    await expect(chat.answer).to_have_text("It was a café…")
    await chat.finished()
    await expect(chat.answers.last.locator(".stats")).to_contain_text("5 tokens")
    assert len(client.requests) == 1
    assert await chat.page.evaluate("sessionStorage.length") == 0


async def test_stop_stops_an_answer_that_went_on_over_a_reload(
    visits: Visits, serve_page: Serve
) -> None:
    client = ScriptedClient(*ANSWER[:2], asyncio.Event(), asyncio.Event())
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.ask("Tell me of it")
    await expect(chat.answer).to_have_text("It was")
    await chat.page.reload()
    await chat.stop.click()
    await client.closed.wait()
    await chat.finished()
    await expect(chat.answers.last.locator(".status")).to_have_text("Stopped.")
    await expect(chat.answer).to_have_text("It was")


async def test_a_key_is_asked_for_once_and_kept_for_the_tab(
    visits: Visits, serve_page: Serve
) -> None:
    chat = await ChatPage.open(visits, serve_page, ScriptedClient(*ANSWER), keys=["secret"])
    dialog = chat.page.get_by_role("dialog")
    await dialog.get_by_label("Key", exact=True).fill("ключ")
    await dialog.get_by_role("button", name="Use this key").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("This is no key")
    await dialog.get_by_label("Key", exact=True).fill("guess")
    await dialog.get_by_role("button", name="Use this key").click()
    await expect(dialog).to_contain_text("key")
    await dialog.get_by_label("Key", exact=True).fill("secret")
    await dialog.get_by_role("button", name="Use this key").click()
    await expect(dialog).to_be_hidden()
    await chat.ask("Tell me of it")
    await expect(chat.answer).to_have_text("It was a café…")
    await chat.page.reload()
    await expect(chat.answer).to_have_text("It was a café…")
    await expect(dialog).to_be_hidden()
    assert await chat.page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 1]


async def test_reasoning_is_folded(visits: Visits, serve_page: Serve) -> None:
    client = ScriptedClient(*text_answer("Four", reasoning="Two and two"))
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.ask("2 + 2?")
    await chat.finished()
    await expect(chat.answer).to_have_text("Four")
    thought = chat.answers.last.get_by_text("Two and two")
    await expect(thought).to_be_hidden()
    await chat.answers.last.get_by_text("Reasoning", exact=True).click()
    await expect(thought).to_be_visible()


async def test_a_refused_turn_is_not_sent_again(visits: Visits, serve_page: Serve) -> None:
    answers = [tuple(text_answer(text)) for text in ("one", "three")]
    client = ChoosingClient(answers[0], (PromptTooLong.of(9000, 8191),), answers[1])
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.asked("first")
    await chat.asked("word word word")
    await expect(chat.answers.last.locator(".status")).to_contain_text("8192")
    await chat.asked("third")
    await expect(chat.answer).to_have_text("three")
    assert said(client.requests[2]) == [("user", "first"), ("assistant", "one"), ("user", "third")]


async def test_an_answer_without_a_word_says_so(visits: Visits, serve_page: Serve) -> None:
    chat = await ChatPage.open(visits, serve_page, ScriptedClient(*text_answer("")))
    await chat.asked("first")
    status = chat.answers.last.locator(".status")
    await expect(status).to_have_text("The model ended its answer without a word.")
    await expect(chat.answers.last.locator(".stats")).to_contain_text("1 token")
    await expect(chat.answers.last.locator(".stats")).not_to_contain_text("1 tokens")
