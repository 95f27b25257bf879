"""A failure as OpenAI's clients expect it:
`{"error": {"message", "type", "param", "code"}}`.

Knows no endpoint. Field by field as in
https://platform.openai.com/docs/guides/error-codes.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from msgspec import UNSET, UnsetType

from appliance.api.errors import ErrorShape, Failure

_TYPE_BY_STATUS = {403: "permission_error", 429: "rate_limit_error"}  # else by class: 4xx or 5xx


class OpenAIErrorDetail(msgspec.Struct, kw_only=True):
    message: str
    type: str
    param: str | None
    code: str | None
    # llama-server's, where the prompt is too long
    n_prompt_tokens: int | UnsetType = UNSET
    n_ctx: int | UnsetType = UNSET


class OpenAIError(msgspec.Struct):
    error: OpenAIErrorDetail


def openai_error(failure: Failure) -> OpenAIError:
    """Also an item of a stream that has begun."""
    size = failure.prompt_size
    is_ours = failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    by_class = "server_error" if is_ours else "invalid_request_error"
    return OpenAIError(
        OpenAIErrorDetail(
            message=failure.message,
            type=_TYPE_BY_STATUS.get(failure.status, by_class),
            param=failure.param,
            code=failure.code,
            n_prompt_tokens=UNSET if size is None else size.num_tokens,
            n_ctx=UNSET if size is None else size.ctx,
        )
    )


OPENAI_ERRORS = ErrorShape(OpenAIError, openai_error)
