"""The web pages of other origins that may use this server.

Knows no header but the one that names an origin.
"""

from __future__ import annotations

import re
from collections.abc import Collection

ANY = "*"


class Origins:
    """As somebody allowed them: `https://chat.example.org`, with `*` for a part of the
    name or for the port (`https://*.example.org`, `http://localhost:*`), or `*`.
    """

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self.replace(allowed)

    def replace(self, allowed: Collection[str]) -> None:
        """These are allowed from now on."""
        self.include_all = ANY in allowed
        self.are_none = not allowed
        self._patterns = [re.compile(_regex(origin)) for origin in allowed if origin != ANY]

    def include(self, origin: str) -> bool:
        """`origin` is the value of an `Origin` header."""
        return self.include_all or self.name(origin)

    def name(self, origin: str) -> bool:
        """Whether it was allowed by its name, and not with all."""
        origin = origin.lower()
        return any(pattern.fullmatch(origin) for pattern in self._patterns)


def _regex(origin: str) -> str:
    name, colon, port = origin.lower().rpartition(":")
    if port != ANY:
        name, colon, port = origin.lower(), "", ""
    # a star ends where a name ends and a port begins; what matches is sent back in a header
    regex = "[a-z0-9._-]*".join(map(re.escape, name.split(ANY)))
    return regex + (r":\d+" if colon else "")
