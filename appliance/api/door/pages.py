"""Whether a web page may have sent a request.

Knows no body and no endpoint. Source: https://fetch.spec.whatwg.org/#origin-header
"""

from __future__ import annotations

from starlette.datastructures import Headers

# With whatever is no GET, a browser sends the first, which is `null` where it would not
# say; with nearly everything the second. Other clients send neither.
_OF_PAGES = ("origin", "sec-fetch-site")


def may_be_of_a_page(headers: Headers) -> bool:
    return any(name in headers for name in _OF_PAGES)
