"""The page for people: how its files are served. Knows no file by name but the first.

Every file has a route of its own, so that what needs no key is a list and not a folder.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.web.files import PAGE, PageFile, page_files

PREFIX = "/web/"
# What the page may do, however a model or a file on the way tries: load from here alone,
# run no script that stands in a text, and make HTML of text only by the one policy that
# DOMPurify declares. Sources: https://www.w3.org/TR/CSP3, https://w3c.github.io/trusted-types
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types dompurify",
    )
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # kept by the browser, and asked about at each visit: a new version is seen at once
    "Cache-Control": "no-cache",
}

PAGE_PATHS = tuple(PREFIX + path for path in page_files() if path != PAGE)


def page_response(request: Request) -> Response:
    """The page itself, which `/` is for browsers."""
    response = file_response(request, page_files()[PAGE])
    response.headers["Vary"] = "Accept"
    return response


def page_routes() -> FormatRouter:
    router = FormatRouter("page")
    for file in page_files().values():
        if file.path != PAGE:
            router.add_api_route(PREFIX + file.path, _serving(file), include_in_schema=False)
    return router


def file_response(request: Request, file: PageFile) -> Response:
    """304 where the client has these very bytes (RFC 9110, 13.1.2)."""
    tag = f'W/"{file.digest[:32]}"'  # weak, for the same tag goes with every packing
    headers = {**_HEADERS, "ETag": tag}
    held = {each.strip() for each in request.headers.get("if-none-match", "").split(",")}
    if held & {"*", tag, tag.removeprefix("W/")}:
        return Response(status_code=304, headers=headers)
    return Response(file.data, media_type=file.media_type, headers=headers)


def _serving(file: PageFile) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return file_response(request, file)

    return serve
