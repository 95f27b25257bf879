"""What goes with a message: settings, attachments, results of functions."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from appliance.errors import WorkerLost
from appliance.protocol.events import Delta, Started, ToolCallPart, Usage
from appliance.protocol.grammar_kind import GrammarKind
from tests.api.scripted_client import ScriptedClient
from tests.api.serving import Serve
from tests.web.chat_page import ChatPage
from tests.web.scripts import Counting, ended
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")
SCHEMA = '{"type": "object", "properties": {"answer": {"type": "string"}}}'


async def test_settings_go_with_every_message_and_belong_to_the_chat(
    visits: Visits, serve_page: Serve
) -> None:
    client = Counting()
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.button("Settings of this chat").click()
    for label, value in {
        "System prompt": "Be brief.",
        "Temperature": "0.2",
        "Top-k": "7",
        "Most tokens": "64",
        "Seed": "0",
        "Answer as JSON of this schema": SCHEMA,
    }.items():
        await chat.page.get_by_label(label, exact=True).fill(value)
    await chat.page.keyboard.press("Escape")
    await expect(chat.button("Settings of this chat")).to_be_focused()
    await chat.asked("first")
    request = client.requests[0]
    assert client.asked() == [("system", "Be brief."), ("user", "first")]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.seed) == (0.2, 7, 0)
    assert request.max_tokens == 64
    assert request.grammar is not None
    assert request.grammar.kind is GrammarKind.JSON_SCHEMA
    await chat.page.reload()
    await expect(chat.messages).to_have_count(2)
    await chat.asked("second")
    assert client.requests[1].sampling == sampling
    assert client.asked(1)[0] == ("system", "Be brief.")


async def test_a_schema_that_is_no_json_is_said_and_not_sent(
    visits: Visits, serve_page: Serve
) -> None:
    client = Counting()
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.button("Settings of this chat").click()
    schema = chat.page.get_by_label("Answer as JSON of this schema")
    await schema.fill('{"type": ')
    await expect(schema).to_have_attribute("aria-invalid", "true")
    await chat.ask("first")
    await expect(chat.answers.last.locator(".status")).to_contain_text("JSON schema is not JSON")
    assert client.requests == []


async def test_a_picture_is_refused_in_words_and_its_text_is_not(
    visits: Visits, serve_page: Serve
) -> None:
    chat = await ChatPage.open(visits, serve_page, Counting())
    paste = """(area, text) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(8)], "photo.png", { type: "image/png" }));
          if (text) data.setData("text/plain", text);
          const event = new ClipboardEvent("paste", { clipboardData: data, cancelable: true });
          return area.dispatchEvent(event);
        }"""
    assert await chat.text.evaluate(paste, "a table") is True  # the browser goes on with it
    await expect(chat.page.get_by_role("alert")).to_be_hidden()
    assert await chat.text.evaluate(paste, "") is False
    alert = chat.page.get_by_role("alert")
    await expect(alert).to_contain_text("photo.png is a picture, and models are not shown pictures")
    await expect(chat.page.locator(".chip")).to_have_count(0)
    await chat.asked("only text")
    await expect(alert).to_be_hidden()


async def test_a_long_paste_becomes_an_attachment(visits: Visits, serve_page: Serve) -> None:
    client = Counting()
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.setData("text/plain", "line\\n".repeat(40) + "```");
          const event = new ClipboardEvent("paste", { clipboardData: data, cancelable: true });
          document.getElementById("message").dispatchEvent(event);
        }"""
    )
    await expect(chat.page.locator(".chip")).to_contain_text("Pasted text 1 (41 lines")
    await expect(chat.text).to_have_value("")
    await chat.asked("Shorten it")
    text = "line\n" * 40 + "```"
    assert client.asked() == [("user", f"Pasted text 1:\n\n````\n{text}\n````\n\nShorten it")]
    await expect(chat.messages.first.locator("pre")).to_be_hidden()
    await chat.messages.first.get_by_text("Pasted text 1").click()
    await expect(chat.messages.first.locator("pre")).to_be_visible()


async def test_a_call_is_shown_and_its_result_goes_back(visits: Visits, serve_page: Serve) -> None:
    parts = [
        ToolCallPart(index=0, id="call_1", name="weather"),
        ToolCallPart(index=0, arguments='{"place": '),
        ToolCallPart(index=0, arguments='"Bergen"}'),
    ]
    deltas = [Delta(request_id=1, text="", num_tokens=1, tool_call=part) for part in parts]
    usage = Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=3)
    client = ScriptedClient(Started(1, 5), *deltas, ended(usage))
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.asked("What is the weather?")
    call = chat.answers.last.locator(".call")
    await expect(call).to_contain_text("Calls weather")
    await expect(call.locator("pre")).to_have_text('{\n  "place": "Bergen"\n}')
    await chat.page.get_by_label("Result of weather").fill("rain")
    await chat.button("Send the result").click()
    await expect(chat.messages).to_have_count(4)
    await expect(chat.messages.nth(2)).to_contain_text("rain")
    messages = client.requests[1].prompt.messages  # type: ignore[union-attr]
    assert messages[1]["tool_calls"][0]["function"]["name"] == "weather"
    assert (messages[2]["role"], messages[2]["content"]) == ("tool", "rain")


async def test_an_error_is_told_in_the_answers_place(visits: Visits, serve_page: Serve) -> None:
    client = ScriptedClient(
        Started(1, 5),
        Delta(request_id=1, text="It", num_tokens=1),
        WorkerLost("The worker is gone."),
    )
    chat = await ChatPage.open(visits, serve_page, client)
    await chat.ask("first")
    await chat.finished()
    await expect(chat.answer).to_have_text("It")
    await expect(chat.answers.last.locator(".status")).to_have_text("The worker is gone.")


async def test_a_file_that_is_not_utf8_is_refused(visits: Visits, serve_page: Serve) -> None:
    chat = await ChatPage.open(visits, serve_page, Counting())
    files = chat.page.locator(".composer input[type=file]")
    await files.set_input_files(
        {"name": "old.txt", "mimeType": "text/plain", "buffer": "Grüße".encode("latin-1")}
    )
    await expect(chat.page.get_by_role("alert")).to_have_text(
        ["old.txt is no text, or not in UTF-8."]
    )
    await expect(chat.page.locator(".chip")).to_have_count(0)


async def test_what_is_typed_outlives_a_reload(visits: Visits, serve_page: Serve) -> None:
    chat = await ChatPage.open(visits, serve_page, Counting())
    await chat.text.fill("half a thought")
    await chat.page.reload()
    await expect(chat.text).to_have_value("half a thought")
    await chat.text.press("Enter")
    await expect(chat.answer).to_have_text("answer 1")
    await chat.page.reload()
    await expect(chat.answer).to_have_text("answer 1")
    await expect(chat.text).to_have_value("")
