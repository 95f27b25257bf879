"""How soon the page is seen: paints of first visits from loopback, by the browser's account.

`python -m tests.web.first_paint` prints them, with what is sent. Knows no view.
"""

from __future__ import annotations

import asyncio
import statistics

from playwright.async_api import async_playwright

from appliance.api.app import create_app
from tests.api.serving import servers
from tests.web.browsers import chromium, options
from tests.web.machine_house import MachineHouse

VISITS = 9
PAINTS = """Object.fromEntries(performance.getEntriesByType("paint")
  .map((each) => [each.name, each.startTime]))"""
_LOADS = """["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))"""
# Paths and sizes, unpacked.
LOADED = f"{_LOADS}.map((each) => [new URL(each.name).pathname, each.decodedBodySize])"
SENT = f"{_LOADS}.reduce((sum, each) => sum + each.transferSize, 0)"


async def main() -> None:
    paints, sent = [], 0
    async with servers() as serve, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=options())
        url = serve(create_app(MachineHouse().gateway()))
        for _ in range(VISITS):
            context = await browser.new_context()  # with an empty cache
            page = await context.new_page()
            await page.goto(url, wait_until="networkidle")
            paints.append((await page.evaluate(PAINTS))["first-contentful-paint"])
            sent = await page.evaluate(SENT)
            await context.close()
        await browser.close()
    print(
        f"first contentful paint of {VISITS} first visits: median {statistics.median(paints):.0f} "
        f"ms, {min(paints):.0f} to {max(paints):.0f} ms; {sent / 1000:.0f} kB sent"
    )


if __name__ == "__main__":
    asyncio.run(main())
