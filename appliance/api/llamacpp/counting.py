"""How many tokens a request's prompt has, without computing it: llama-server's
/v1/chat/completions/input_tokens and OpenAI's /v1/responses/input_tokens.

Knows no template and no vocabulary.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.openai.chat import ChatRequest
from appliance.api.openai.responses.request import ResponsesRequest
from appliance.api.openai.responses.turn import turn_of
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.gateway.lifecycle import Gateway
from appliance.protocol.questions import Tokenize
from appliance.protocol.requests import ChatPrompt, GenerateRequest


class InputTokens(msgspec.Struct, kw_only=True):
    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


def counting_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("openai")

    async def count(caller: RequestCaller, name: str | None, asked: GenerateRequest) -> Response:
        assert isinstance(asked.prompt, ChatPrompt), "both endpoints have conversations"
        result = await gateway.ask(
            caller, gateway.models_of(caller).resolve(name), Tokenize(asked.prompt)
        )
        return RecordResponse(InputTokens(input_tokens=len(result.tokens)))

    @router.post(
        "/v1/chat/completions/input_tokens",
        response_class=Response,
        responses=router.returns(InputTokens),
    )
    async def count_chat(request: ChatRequest, caller: RequestCaller) -> Response:
        """How many tokens this request's prompt has; nothing is computed."""
        return await count(caller, request.model, request.to_generate_request())

    @router.post(
        "/v1/responses/input_tokens", response_class=Response, responses=router.returns(InputTokens)
    )
    async def count_response(request: ResponsesRequest, caller: RequestCaller) -> Response:
        """How many tokens this request's prompt has, with what it continues; nothing is
        computed.
        """
        whole = (await turn_of(gateway, caller.id, request)).request
        return await count(caller, whole.model, whole.to_generate_request())

    return router
