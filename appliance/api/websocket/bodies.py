"""The bodies of HTTP's endpoints, as messages bring them: read by the same models, and
begun by the same functions.

Knows no message and no event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.types import Scope

from appliance.api.fields.request import RequestModel, names_of
from appliance.api.openai.chat import ChatRequest, begin_chat
from appliance.api.openai.completions import CompletionRequest, begin_completion
from appliance.api.openai.responses.request import ResponsesRequest
from appliance.api.openai.responses.routes import begin_response
from appliance.api.transport.unknown_parameters import (
    IGNORED_HEADER,
    UnknownParameters,
    ignored_headers,
)
from appliance.api.transport.wire_format import FormattedEvents
from appliance.api.websocket.failures import InvalidMessage
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.lifecycle import Gateway

_Model = TypeVar("_Model", bound=RequestModel)


@dataclass(frozen=True)
class Endpoint:
    """What is asked of it over HTTP, and how its answer begins."""

    model: type[RequestModel]
    begin: Callable[[Gateway, Caller, Any], Awaitable[FormattedEvents]]


ENDPOINTS: Mapping[str, Endpoint] = {
    "chat": Endpoint(ChatRequest, begin_chat),
    "completion": Endpoint(CompletionRequest, begin_completion),
    "response": Endpoint(ResponsesRequest, begin_response),
}


def read_body(
    model: type[_Model], body: Mapping[str, Any], scope: Scope
) -> tuple[_Model, str | None]:
    """The request, and the names of the parameters that were left out, as HTTP's header
    has them.

    `scope` is that of the connection. Raises `InvalidMessage`.
    """
    unknown: UnknownParameters = scope["app"].state.unknown_parameters
    own = {**scope, "state": {**scope.get("state", {})}}  # of this request alone
    taken = unknown.taken_off(body, names_of(model).by_sent, own)
    try:
        request = model.model_validate(taken)
    except ValidationError as error:
        raise InvalidMessage.of(error) from error
    return request, ignored_headers(own).get(IGNORED_HEADER)
