"""GET /: the page for somebody who opened the address in a browser, and for clients and
probes what listens here.

Knows no model: who has no key learns nothing but this.
"""

from __future__ import annotations

from fastapi import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from appliance.api.format_router import FormatRouter
from appliance.api.page import page_response

_LINES = (
    ("/v1", "the base URL for OpenAI's clients"),
    ("/v1/models", "the models"),
    ("/api", "Ollama's endpoints: its clients take this address as it is"),
    ("/v1/messages", "Anthropic's messages: its clients take this address as it is"),
    ("/openapi.json", "every endpoint and field"),
    ("/health", "whether requests would be served"),
)
_NAME = "This is the appliance, a server of language models."
# Programs that look for an Ollama look for these words.
_FOR_PROBES = "Ollama is running"
# A browser that shows it all the same loads and runs nothing.
_HEADERS = {
    "Vary": "Accept",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def welcome_routes() -> FormatRouter:
    router = FormatRouter("welcome")

    @router.get("/", include_in_schema=False)
    async def welcome(request: Request) -> Response:
        """A page, text or JSON, by what the client accepts."""
        accepted = request.headers.get("accept", "").lower()
        if "text/html" in accepted:
            return page_response(request)
        if "application/json" in accepted:
            return JSONResponse({"name": "appliance", **dict(_LINES)}, headers=_HEADERS)
        return PlainTextResponse(_text(), headers=_HEADERS)

    return router


def _text() -> str:
    lines = (f"{path:<15}{what}" for path, what in _LINES)
    return "\n".join([_FOR_PROBES, "", _NAME, *lines, ""])
