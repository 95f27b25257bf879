"""Why a message or a request failed that is not HTTP's.

Knows no message and no endpoint.
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import ValidationError

from appliance.api.errors import INTERNAL_FAILURE, Failure, validation_failure
from appliance.errors import ApplianceError

_log = logging.getLogger(__name__)


class InvalidMessage(Exception):
    """What a client sent is not what is taken."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure

    @classmethod
    def of(cls, error: ValidationError) -> InvalidMessage:
        """As over HTTP, where the same models refuse the same bodies."""
        first = error.errors(include_url=False, include_input=False)[0]
        return cls(validation_failure([{**first, "loc": ("body", *first["loc"])}]))

    @classmethod
    def of_field(cls, name: str, reason: str, code: str = "invalid_value") -> InvalidMessage:
        message = f"Invalid '{name}': {reason}."
        return cls(Failure(status=400, message=message, code=code, param=name))

    @classmethod
    def no_json(cls, reason: str) -> InvalidMessage:
        message = f"The message is not valid JSON: {reason}."
        return cls(Failure(status=400, message=message, code="invalid_json"))

    @classmethod
    def no_object(cls) -> InvalidMessage:
        message = "The message must be a JSON object."
        return cls(Failure(status=400, message=message, code="invalid_value"))


def failure_of(error: Exception) -> Failure:
    """Of whatever ended a request before its first event; the unforeseen is logged."""
    if isinstance(error, InvalidMessage):
        return error.failure
    if isinstance(error, ApplianceError):
        if error.status >= INTERNAL_FAILURE.status:
            _log.warning("responded with %d %s: %s", error.status, error.code, error.message)
        return Failure.of(error)
    _log.error("a request failed", exc_info=error)
    return INTERNAL_FAILURE


def refusal_of(status: int, message: str, code: str, **fields: Any) -> InvalidMessage:
    return InvalidMessage(Failure(status=status, message=message, code=code, **fields))
