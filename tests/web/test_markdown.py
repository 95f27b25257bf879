"""Markdown that grows ends as it would have been made at once, and is not made anew all the
time.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page

from appliance.api.app import create_app
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.api.serving import Serve
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")

GROW = """
async ([source, step]) => {
  const { GrowingMarkdown, rendered } = await import("/web/chat/markdown.js");
  const root = document.createElement("div");
  const whole = document.createElement("div");
  whole.append(rendered(source));
  const growing = new GrowingMarkdown(root);
  for (let at = step; at < source.length; at += step) growing.update(source.slice(0, at));
  growing.update(source, true);
  return { grown: root.innerHTML, whole: whole.innerHTML, count: growing.numRendered };
}
"""

SOURCES = [
    "Plain text.\n\nAnother **paragraph** with `code`.",
    "# Title\n\ntext\n\n## Part\n\nmore",
    "Heading\n===\n\ntext",
    "- one\n- two\n  - deeper\n\n- loose\n\nafter",
    "1. one\n2. two\n\n   still two\n3. three",
    "```python\nprint(1)\n\n# two\n```\n\nafter\n\n~~~\nx\n~~~",
    "````md\n```js\nlet a;\n```\n````\n\nend",
    "```js\nnever closed\n\nlet a = 1;",
    "| a | b |\n|---|:-:|\n| 1 | 2 |\n\nafter",
    "> quote\n> goes on\nlazily\n\nafter",
    "See [it][ref] and [that].\n\n[ref]: https://example.org\n\n[that]: https://example.org/that",
    "<b>bold</b>\n\n<div>\nblock\n</div>\n\nafter",
    "a  \nb\nc\n\n---\n\nd",
    "    indented code\n\ntext",
    "- [x] done\n- [ ] open",
    "tab\tin text\n\n-\ttab in list",
    "\n\n\nfirst after nothing",
]


async def grow(page: Page, source: str, step: int) -> dict[str, Any]:
    found: dict[str, Any] = await page.evaluate(GROW, [source, step])
    return found


async def test_what_grew_is_what_is_made_at_once(visits: Visits, serve_page: Serve) -> None:
    page = await visits.open(serve_page(create_app(gateway_around(ScriptedClient()))))
    for source in SOURCES:
        for step in (1, 7):
            found = await grow(page, source, step)
            assert found["grown"] == found["whole"], source


async def test_only_the_last_block_is_made_anew(visits: Visits, serve_page: Serve) -> None:
    page = await visits.open(serve_page(create_app(gateway_around(ScriptedClient()))))
    paragraphs = "".join(f"Paragraph {number:03}.\n\n" for number in range(100))
    # one step for each: it is made once while it is the last, and once for good
    found = await grow(page, paragraphs, 16)
    assert found["count"] <= 200
    # while its first line is not complete, as an open block, and at the end with colours
    code = "```python\n" + "x = 1\n" * 1000
    assert (await grow(page, code, 6))["count"] == 3


async def test_numbers_and_alignments_are_kept(visits: Visits, serve_page: Serve) -> None:
    page = await visits.open(serve_page(create_app(gateway_around(ScriptedClient()))))
    assert (await grow(page, "3. three", 5))["grown"] == '<ol start="3">\n<li>three</li>\n</ol>\n'
    table = (await grow(page, "| a |\n|--:|\n| 1 |", 5))["grown"]
    assert '<th align="right">a</th>' in table


async def test_a_long_list_is_not_made_anew_as_a_whole(visits: Visits, serve_page: Serve) -> None:
    page = await visits.open(serve_page(create_app(gateway_around(ScriptedClient()))))
    source = "".join(f"{number}. item of the list\n" for number in range(1, 501))
    found = await grow(page, source, 20)
    assert found["grown"].count("<li>") == 500
    starts = [int(each) for each in re.findall(r'<ol start="(\d+)">', found["grown"])]
    assert len(starts) > 3
    assert starts == sorted(starts)


async def test_links_lead_out_without_telling_from_where(visits: Visits, serve_page: Serve) -> None:
    page = await visits.open(serve_page(create_app(gateway_around(ScriptedClient()))))
    found = await grow(page, "[a](https://example.org) ![b](https://example.org/b.png)", 5)
    assert found["grown"] == (
        '<p><a href="https://example.org" target="_blank" rel="noopener noreferrer nofollow">a</a> '
        '<a href="https://example.org/b.png" target="_blank" '
        'rel="noopener noreferrer nofollow">b</a></p>\n'
    )


async def test_footnotes_stay_text(visits: Visits, serve_page: Serve) -> None:
    page = await visits.open(serve_page(create_app(gateway_around(ScriptedClient()))))
    found = await grow(page, "Whales[^1]\n\n[^1]: mammals", 5)
    assert found["grown"] == "<p>Whales[^1]</p>\n<p>[^1]: mammals</p>\n"
