"""Whatever a model says stays text: nothing of it runs, loads or becomes an element that
the page's Markdown does not have.
"""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from appliance.api.app import create_app
from appliance.protocol.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Started,
    ToolCallPart,
    Usage,
)
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.api.serving import Serve
from tests.web.chat_page import ChatPage
from tests.web.hostile_texts import HTML, MARKDOWN
from tests.web.visits import Visits

# What may stand in an answer, beside the buttons and icons of the page itself.
STRANGERS = """
() => {
  const known = new Set(("DIV P BR HR STRONG EM DEL CODE PRE SPAN BLOCKQUOTE UL OL LI A BUTTON "
    + "H1 H2 H3 H4 H5 H6 TABLE THEAD TBODY TR TH TD DETAILS SUMMARY FORM INPUT svg path"
    ).split(" "));
  const found = [];
  for (const message of document.querySelectorAll(".message")) {
    for (const each of message.querySelectorAll("*")) {
      if (!known.has(each.tagName)) found.push(each.outerHTML);
      for (const { name, value } of each.attributes) {
        if (/^on|^style$|^src|^id$/.test(name)) found.push(each.outerHTML);
        if (name === "href" && !/^(https?|mailto):/.test(value)) found.push(each.outerHTML);
      }
    }
    const fields = message.querySelectorAll(".markdown :is(form, input)");
    found.push(...[...fields].map((each) => each.outerHTML));
  }
  return [found, window.wasPwned ?? false];
}
"""


class Parrot(ScriptedClient):
    """Says `text`, in the pieces of a stream, as its answer, its thoughts and a call."""

    text = ""

    def __init__(self) -> None:
        super().__init__()
        self._steps = ()

    def say(self, text: str) -> None:
        pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
        thoughts = [Delta(request_id=1, text="", num_tokens=1, reasoning=each) for each in pieces]
        answer: list[Event] = [Delta(request_id=1, text=each, num_tokens=1) for each in pieces]
        call = ToolCallPart(index=0, id="call_1", name=text, arguments=text)
        usage = Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=5)
        self._steps = (
            Started(1, 5),
            *thoughts,
            *answer,
            Delta(request_id=1, text="", num_tokens=1, tool_call=call),
            Finished(request_id=1, reason=FinishReason.STOP, usage=usage),
        )


def squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("corpus", [HTML, MARKDOWN], ids=["html", "markdown"])
async def test_hostile_answers_stay_text(
    visits: Visits, serve_page: Serve, corpus: list[str]
) -> None:
    parrot = Parrot()
    page = await visits.open(serve_page(create_app(gateway_around(parrot))))
    await page.evaluate("() => { window.pwned = () => { window.wasPwned = true; } }")
    chat = ChatPage(page)
    for count, text in enumerate(corpus, start=1):
        parrot.say(text)
        await chat.ask(text)
        await expect(chat.answers).to_have_count(count)
        await chat.finished()
        if corpus is HTML:
            shown = squeezed(await chat.answer.inner_text())
            assert shown == squeezed(text)
        assert await page.evaluate(STRANGERS) == [[], False], text
    await page.reload()
    await expect(chat.answers).to_have_count(len(corpus))
    assert await page.evaluate(STRANGERS) == [[], False]


def test_the_corpus_is_large() -> None:
    assert len(HTML) >= 40
    assert len({*HTML, *MARKDOWN}) == len(HTML) + len(MARKDOWN)
