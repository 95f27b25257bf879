"""Pictures in questions: refused, in the one place that will send them.

Knows no file.
"""

from __future__ import annotations

from typing import NoReturn

from appliance.errors import BadSettings


def refuse_picture(path: str) -> NoReturn:
    """Raises `BadSettings`."""
    raise BadSettings(
        f"{path or 'The picture'} is not sent: no model here sees pictures yet. Ask in words, or "
        "send what the picture says as text."
    )
