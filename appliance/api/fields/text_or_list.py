"""A field that is a text or a list, so that what is wrong inside is told of the one that it is.

Knows no field.
"""

from __future__ import annotations

from pydantic import Discriminator

TEXT = "<text>"  # the tag of the one


def text_or_list(list_tag: str, message: str) -> Discriminator:
    """Chooses `TEXT` or `list_tag`; whatever is neither is refused with `message`."""

    def kind(value: object) -> str | None:
        if isinstance(value, str):
            return TEXT
        return list_tag if isinstance(value, list) else None

    return Discriminator(kind, custom_error_type="invalid_value", custom_error_message=message)
