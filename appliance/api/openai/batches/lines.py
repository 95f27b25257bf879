"""A line of a batch: a request to one of OpenAI's endpoints, answered as over HTTP, and
what the result files hold of it.

Knows no file and no schedule, but gives way: while there is a request in the foreground,
an answer is interrupted, and goes on afterwards with what it has computed.

Source: https://platform.openai.com/docs/api-reference/batch/request-input
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.types import Scope

from appliance.api.door.request_ids import new_request_id
from appliance.api.openai.batches.wire import LineError, LineResponse, ResultLine
from appliance.api.openai.embeddings import EmbeddingsRequest, embed
from appliance.api.openai.errors import openai_error
from appliance.api.transport import json_text
from appliance.api.transport.caller import set_caller
from appliance.api.transport.client_watch import unless_ended
from appliance.api.transport.completed_choice import GrowingChoices
from appliance.api.transport.wire_format import WireRecord
from appliance.api.websocket.bodies import ENDPOINTS, Endpoint, read_body
from appliance.api.websocket.failures import failure_of
from appliance.errors import QueueFull, StreamGone, Unavailable
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.batches.line_format import BadLine
from appliance.gateway.batches.records import LineResult
from appliance.gateway.lifecycle import Gateway

_EMBEDDINGS = "/v1/embeddings"
_GENERATING: Mapping[str, Endpoint] = {
    "/v1/chat/completions": ENDPOINTS["chat"],
    "/v1/completions": ENDPOINTS["completion"],
    "/v1/responses": ENDPOINTS["response"],
}
_MAX_CUSTOM_ID_CHARS = 512
_MAX_ECHOED_CHARS = 100


class BatchLines:
    """Implements `appliance.gateway.batches.line_format.LineFormat`."""

    def __init__(self, gateway: Gateway, app: Starlette, max_line_bytes: int) -> None:
        self._gateway = gateway
        self._app = app
        self.max_line_bytes = max_line_bytes

    def custom_id(self, line: bytes, endpoint: str) -> str:
        """See `LineFormat`."""
        fields = _fields_of(line)
        custom_id = _text_field(fields, "custom_id")
        if not 1 <= len(custom_id) <= _MAX_CUSTOM_ID_CHARS:
            raise BadLine(
                "invalid_custom_id",
                f"The custom_id must have 1 to {_MAX_CUSTOM_ID_CHARS} characters.",
                "custom_id",
            )
        method = fields.get("method")
        if method is not None and (not isinstance(method, str) or method.upper() != "POST"):
            raise BadLine("invalid_method", "The method must be POST.", "method")
        url = _text_field(fields, "url")
        if url != endpoint:
            raise BadLine(
                "mismatched_endpoint",
                f"The url '{url[:_MAX_ECHOED_CHARS]}' is not the batch's endpoint, {endpoint}.",
                "url",
            )
        if not isinstance(fields.get("body"), dict):
            raise BadLine("missing_required_parameter", "The body must be a JSON object.", "body")
        return custom_id

    async def answer(self, caller: Caller, endpoint: str, line: bytes) -> LineResult:
        """See `LineFormat`."""
        fields = _fields_of(line)
        scope: Scope = {"type": "http", "app": self._app, "path": endpoint, "headers": []}
        set_caller(scope, caller)
        status = 200
        try:
            answered: Any = await self._answered(caller, endpoint, fields["body"], scope)
        except (Unavailable, QueueFull):
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this line's result
            failure = failure_of(error)
            status, answered = failure.status, openai_error(failure)
        response = LineResponse(status_code=status, request_id=new_request_id(), body=answered)
        text = _result_text(fields["custom_id"], response=response)
        return LineResult(text, is_failure=status != 200)

    def unanswered(self, custom_id: str, code: str, message: str) -> bytes:
        """See `LineFormat`."""
        return _result_text(custom_id, error=LineError(code=code, message=message))

    async def _answered(
        self, caller: Caller, endpoint: str, body: Mapping[str, Any], scope: Scope
    ) -> WireRecord:
        if endpoint == _EMBEDDINGS:
            request, _ = read_body(EmbeddingsRequest, body, scope)
            return await embed(self._gateway, caller, request)
        generating = _GENERATING[endpoint]
        asked, _ = read_body(generating.model, body, scope)
        while True:
            with contextlib.suppress(StreamGone):  # then it begins anew
                return await self._generated(generating, caller, asked)

    async def _generated(self, endpoint: Endpoint, caller: Caller, request: Any) -> WireRecord:
        """Raises `StreamGone` where what was computed is lost while it gave way: its model
        was unloaded, or it had not been started yet.
        """
        foreground = self._gateway.foreground
        await foreground.until_absent()
        events, wire_format = await endpoint.begin(self._gateway, caller, request)
        events.keep(f"batch-{secrets.token_hex(12)}")
        choices = GrowingChoices()
        try:
            while not await unless_ended(choices.take(events), foreground.until_present()):
                await foreground.until_absent()
        finally:
            events.forget()
        whole = wire_format.whole(choices.completed())
        assert isinstance(whole, msgspec.Struct | Mapping), "OpenAI's formats answer with one"
        return whole


def _fields_of(line: bytes) -> dict[str, Any]:
    try:
        fields = json_text.decode(line)
    except ValueError as error:
        raise BadLine("invalid_json_line", f"The line is not valid JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise BadLine("invalid_json_line", "The line must be a JSON object.")
    return fields


def _text_field(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise BadLine("missing_required_parameter", f"'{name}' must be there, as a string.", name)
    return value


def _result_text(
    custom_id: str, *, response: LineResponse | None = None, error: LineError | None = None
) -> bytes:
    return msgspec.json.encode(
        ResultLine(
            id=f"batch_req_{secrets.token_hex(12)}",
            custom_id=custom_id,
            response=response,
            error=error,
        )
    )
