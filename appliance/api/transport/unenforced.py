"""Names, in a header of the response, the places in a request's schemas that its answer may
not keep to.

Knows no schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

UNENFORCED_HEADER = "x-unenforced-schema"
_MAX_PLACES = 32  # named; a schema may have thousands
_MAX_PLACE_CHARS = 200
_PLAIN = "/#$~!*'()@:%"  # in JSON pointers as fragments; a comma separates places here


def unenforced_headers(places: Sequence[str]) -> dict[str, str]:
    """`places` are JSON pointers; a tool's begin with its name."""
    if not places:
        return {}
    named = [quote(place[:_MAX_PLACE_CHARS], safe=_PLAIN) for place in places[:_MAX_PLACES]]
    return {UNENFORCED_HEADER: ", ".join([*named, "..."] if len(places) > len(named) else named)}
