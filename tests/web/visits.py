"""Visits to the page: each a browser window of its own that writes down what must not be.

Knows no view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # without playwright its tests are skipped, and others of this room are not
    from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request

_WATCH = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`violates ${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""
# A refused key or a failed request is written to the console too, whatever the page does.
_REFUSED = "Failed to load resource: the server responded with a status of"
_BROKEN = "Failed to load resource: net::ERR_"


class Visits:
    """Windows of one browser; `faults` holds what any of them did amiss."""

    def __init__(self, browser: Browser) -> None:
        self.faults: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    async def open(
        self, url: str, *, script: str = "", breaks: bool = False, **options: Any
    ) -> Page:
        """A window without a past but what `script` makes. `breaks`: its connections may.
        `options` are a context's, such as `color_scheme`.
        """
        context = await self._browser.new_context(**options)
        context.set_default_timeout(20_000)
        self._contexts.append(context)
        await context.add_init_script(_WATCH + script)
        page = await context.new_page()
        self._watch(page, url, (_REFUSED, _BROKEN) if breaks else (_REFUSED,))
        await page.goto(url)
        return page

    def _watch(self, page: Page, url: str, allowed: tuple[str, ...]) -> None:
        own = f"{url.partition('/#')[0].rstrip('/')}/"

        def on_request(request: Request) -> None:
            if not request.url.startswith((own, "data:", "blob:")):
                self.faults.append(f"asks {request.url}")

        def on_console(message: ConsoleMessage) -> None:
            if not message.text.startswith(allowed):
                self.faults.append(message.text)

        page.on("request", on_request)
        page.on("console", on_console)
        page.on("pageerror", lambda error: self.faults.append(f"raises {error}"))

    async def close(self) -> None:
        for context in self._contexts:
            await context.close()
