"""By what an answer is known again: everything that it follows from.

Knows no entry. Of a request nothing is left out but what has no part in its answer; its
objects keep their order, which templates show to the model.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import msgspec

from appliance.protocol.model_info import ModelInfo
from appliance.protocol.requests import (
    ChatPrompt,
    GenerateRequest,
    TextPrompt,
    TextRole,
    TokenPrompt,
)

_FORMAT = 1  # of keys and values: another one begins anew


class AnswerKeys:
    """Of one request; `owner` is whose answers may be taken."""

    def __init__(self, owner: str, request: GenerateRequest) -> None:
        """Raises `OverflowError` for one that no worker could be sent."""
        self._owner = owner
        self._is_chat = isinstance(request.prompt, ChatPrompt)
        asked = msgspec.structs.replace(request, keep_alive_s=None, resume_id="", is_whole=False)
        self._request = _digest(asked)

    def key(self, info: ModelInfo | None, moment: datetime) -> bytes | None:
        """Of its answer by this model, if its prompt is rendered at that moment. None
        where it is not known what the answer follows from.
        """
        if info is None or not info.fingerprint:
            return None
        formats = info.clock_formats if self._is_chat else []
        if formats is None:
            return None
        clock = [moment.strftime(each) for each in formats]
        return _digest(("answer", _FORMAT, self._owner, info.fingerprint, clock, self._request))


def vector_key(
    owner: str, info: ModelInfo, given: TextPrompt | TokenPrompt, role: TextRole | None = None
) -> bytes:
    """Of one input's vector."""
    return _digest(("vector", _FORMAT, owner, info.fingerprint, given, role))


def _digest(value: Any) -> bytes:
    return hashlib.sha256(msgspec.msgpack.encode(value)).digest()
