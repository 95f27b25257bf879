"""Ids of calls, in the form that a model's chat template takes again. Knows no call."""

from __future__ import annotations

import secrets
import string

from appliance.text.calls.syntax import CallIds

_LETTERS = string.ascii_letters + string.digits


def new_call_id(form: CallIds, name: str, index: int) -> str:
    """Of the answer's call `index`, of the function `name`."""
    if form is CallIds.COUNTED:
        return f"functions.{name}:{index}"
    if form is CallIds.NINE:
        return _random(9)
    return "call_" + _random(24)


def _random(num_characters: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(num_characters))
