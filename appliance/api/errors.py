"""Why a request failed, and which wire format writes that at which path.

Knows no endpoint and no shape: each router declares how its format writes a failure. A
request that does not validate is a failure with status 400, never 422.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from appliance.errors import ApplianceError, PromptSize

MAX_ECHOED_CHARS = 100  # a name that comes from the client may be a megabyte long

# pydantic's name of what is wrong -> our code, which is OpenAI's where OpenAI has one;
# our own validators bring their code as the name.
_CODE_BY_KIND = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
    "json_invalid": "invalid_json",
    "unsupported_parameter": "unsupported_parameter",
}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a request failed, before any wire format writes it."""

    status: int  # HTTP's
    message: str  # what is wrong, and the way out
    code: str | None = None  # stable, for programs; None where Starlette refused
    param: str | None = None  # the request's field that is at fault
    prompt_size: PromptSize | None = None  # where the prompt is too long
    headers: Mapping[str, str] = field(default_factory=dict)  # beside those of its status

    @classmethod
    def of(cls, error: ApplianceError) -> Failure:
        return cls(
            status=error.status,
            message=error.message,
            code=error.code,
            param=error.param,
            prompt_size=error.prompt_size,
            headers={}
            if error.retry_after_s is None
            else {"Retry-After": f"{error.retry_after_s}"},
        )


# What nobody foresaw: the log has the details, the response has not.
INTERNAL_FAILURE = Failure(
    status=500,
    message="An internal error occurred; the server's log has the details.",
    code="internal_error",
)


@dataclass(frozen=True)
class ErrorShape:
    """How a wire format writes a failure."""

    record_type: type[msgspec.Struct]  # for the OpenAPI description
    to_record: Callable[[Failure], msgspec.Struct]
    # of a response that is this record, beside those of its status
    headers: Callable[[msgspec.Struct], Mapping[str, str]] = lambda _record: {}


class ErrorShapes:
    """Which shape an error has: that of a header which somebody claimed, else at its path
    that of the longest prefix which somebody claimed.
    """

    def __init__(self, default: ErrorShape) -> None:
        self._default = default
        self._claims: list[tuple[str, ErrorShape]] = []  # the longest prefix first
        self._by_header: dict[bytes, ErrorShape] = {}

    def claim(self, prefix: str, shape: ErrorShape) -> None:
        """`/api` also has what is below it, such as `/api/chat`,
        but not `/apis`; `/` is that path alone.
        """
        self._claims.append((prefix.rstrip("/") or "/", shape))
        self._claims.sort(key=lambda claim: -len(claim[0]))

    def claim_header(self, name: str, shape: ErrorShape) -> None:
        """Requests with this header are in one format, at whatever path."""
        self._by_header[name.lower().encode()] = shape

    def of(self, path: str, header_names: Container[bytes]) -> ErrorShape:
        """`header_names` in lower case."""
        claimed = (shape for name, shape in self._by_header.items() if name in header_names)
        return next(claimed, None) or self.at(path)

    def at(self, path: str) -> ErrorShape:
        for prefix, shape in self._claims:
            if path == prefix or (prefix != "/" and path.startswith(prefix + "/")):
                return shape
        return self._default


def validation_failure(errors: Sequence[Mapping[str, Any]]) -> Failure:
    """The first of pydantic's complaints, in a sentence that names the field."""
    first = errors[0]
    kind, param = first["type"], _param(first["loc"])
    if kind == "json_invalid":
        message = f"The body is not valid JSON: {first['ctx']['error']}."
        return Failure(status=400, message=message, code="invalid_json")
    if param is None:
        message = "The body must be a JSON object."
        return Failure(status=400, message=message, code="invalid_value")
    if kind == "missing":
        message = f"Missing required parameter: '{param}'."
    elif kind == "extra_forbidden":
        message = f"Unrecognized request argument supplied: '{param}'."
    else:
        message = f"Invalid '{param}': {first['msg']}"
        message += "" if message.endswith(".") else "."
    code = _CODE_BY_KIND.get(kind, "invalid_value")
    return Failure(status=400, message=message, code=code, param=param)


def _param(loc: Sequence[str | int]) -> str | None:
    """`("body", "messages", 0, "content")` -> `messages[0].content`;
    None for the body as a whole.

    Parts in angle brackets are our tags of a union's branches, not names in the
    request.
    """
    param = ""
    for part in loc[1:]:
        if isinstance(part, int):
            param += f"[{part}]"
        elif not part.startswith("<"):
            param += f".{part}" if param else part
    if not param and len(loc) > 1:  # a field of the body that is named like a tag
        param = str(loc[-1])
    return param[:MAX_ECHOED_CHARS] or None
