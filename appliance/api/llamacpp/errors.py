"""A failure as llama-server writes it: `{"error": {"code", "message", "type"}}`, and what
we have beside that.

Knows no endpoint. Source: tools/server/server-common.cpp of llama.cpp,
`format_error_response`.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from msgspec import UNSET, UnsetType

from appliance.api.errors import ErrorShape, Failure

_TYPE_BY_STATUS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    501: "not_supported_error",
    503: "unavailable_error",
}  # else by class: 4xx or 5xx


class LlamaErrorDetail(msgspec.Struct, kw_only=True):
    code: int  # HTTP's status
    message: str
    type: str
    param: str | None  # ours: the field that is at fault
    reason: str | None  # ours: what OpenAI calls the code
    # where the prompt is too long
    n_prompt_tokens: int | UnsetType = UNSET
    n_ctx: int | UnsetType = UNSET


class LlamaError(msgspec.Struct):
    error: LlamaErrorDetail


def llama_error(failure: Failure) -> LlamaError:
    """Also an item of a stream that has begun."""
    size = failure.prompt_size
    is_ours = failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    by_class = "server_error" if is_ours else "invalid_request_error"
    by_status = _TYPE_BY_STATUS.get(failure.status, by_class)
    return LlamaError(
        LlamaErrorDetail(
            code=failure.status,
            message=failure.message,
            type=by_status if size is None else "exceed_context_size_error",
            param=failure.param,
            reason=failure.code,
            n_prompt_tokens=UNSET if size is None else size.num_tokens,
            n_ctx=UNSET if size is None else size.ctx,
        )
    )


LLAMA_ERRORS = ErrorShape(LlamaError, llama_error)
