"""A failure as Anthropic's clients expect it:
`{"type": "error", "error": {"type", "message"}, "request_id"}`.

Knows no endpoint. Source: https://docs.claude.com/en/api/errors
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Literal

import msgspec

from appliance.api.door.request_ids import new_request_id
from appliance.api.errors import ErrorShape, Failure
from appliance.logs import REQUEST_ID

REQUEST_ID_HEADER = "request-id"
VERSION_HEADER = "anthropic-version"  # who sends it expects everything in this format

_TYPE_BY_STATUS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    431: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
}  # else by class: 4xx or 5xx


class AnthropicErrorDetail(msgspec.Struct):
    type: str
    message: str


class AnthropicError(msgspec.Struct, kw_only=True):
    type: Literal["error"] = "error"
    error: AnthropicErrorDetail
    request_id: str


def current_request_id() -> str:
    """That of the header `x-request-id`, too."""
    return REQUEST_ID.get() or new_request_id()


def anthropic_error(failure: Failure, request_id: str | None = None) -> AnthropicError:
    """Also an item of a stream that has begun; by default with the request's id."""
    is_ours = failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    by_class = "api_error" if is_ours else "invalid_request_error"
    kind = _TYPE_BY_STATUS.get(failure.status, by_class)
    return AnthropicError(
        error=AnthropicErrorDetail(kind, _message(failure)),
        request_id=request_id or current_request_id(),
    )


def _message(failure: Failure) -> str:
    """Clients shorten a conversation by themselves when they read "prompt is too long:
    N tokens > M maximum".
    """
    size = failure.prompt_size
    if size is None:
        return failure.message
    return (
        f"prompt is too long: {size.num_tokens} tokens > {size.ctx - 1} maximum. Shorten the "
        "conversation, or serve with a larger --ctx."
    )


def _headers(record: msgspec.Struct) -> Mapping[str, str]:
    assert isinstance(record, AnthropicError)
    return {REQUEST_ID_HEADER: record.request_id}


ANTHROPIC_ERRORS = ErrorShape(AnthropicError, anthropic_error, _headers)
