"""llama.cpp's own helpers: /tokenize, /detokenize, /apply-template, /props. Knows no sampling.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md. Of several models `model` names one.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from appliance.api.body import StrictJsonRoute
from appliance.api.errors import RESPONSES
from appliance.api.openai.chat_messages import MAX_MESSAGES, Message, chat_prompt
from appliance.api.openai.parameters import ReasoningEffort, TemplateArguments, settings_of
from appliance.api.openai.request import RequestModel, TokenId
from appliance.api.openai.tools import ToolFields
from appliance.engine.sequence import SamplingParams
from appliance.gateway.lifecycle import Gateway
from appliance.worker.messages import Answered, DescribeText, Detokenize, RenderChat, TextPrompt, Tokenize

ModelName = Annotated[str, Field(max_length=256)]


class TokenizeRequest(RequestModel):
    content: str
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False
    model: ModelName | None = None


class DetokenizeRequest(RequestModel):
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]
    model: ModelName | None = None


class ApplyTemplateRequest(ToolFields):
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    reasoning_effort: ReasoningEffort | None = None
    chat_template_kwargs: TemplateArguments | None = None
    model: ModelName | None = None


def native_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["llama.cpp"], route_class=StrictJsonRoute, responses=RESPONSES)

    @router.post("/tokenize", response_class=Response)
    async def tokenize(request: TokenizeRequest) -> Response:
        """Token ids of a text; with `with_pieces` each one's text too, as bytes where it is no whole character."""
        question = Tokenize(TextPrompt(request.content), request.add_special, request.parse_special)
        answer = await gateway.ask(gateway.router.resolve(request.model), question)
        return _json({"tokens": _with_pieces(answer) if request.with_pieces else answer.tokens})

    @router.post("/detokenize", response_class=Response)
    async def detokenize(request: DetokenizeRequest) -> Response:
        """The text of token ids."""
        answer = await gateway.ask(gateway.router.resolve(request.model), Detokenize(request.tokens))
        return _json({"content": answer.text})

    @router.post("/apply-template", response_class=Response)
    async def apply_template(request: ApplyTemplateRequest) -> Response:
        """What a conversation reads after the model's chat template: the prompt of /v1/chat/completions."""
        tools = [function.for_template() for function in request.shown_tools()]
        prompt = chat_prompt(request.messages, request.chat_template_kwargs, tools, request.reasoning_effort)
        answer = await gateway.ask(gateway.router.resolve(request.model), RenderChat(prompt))
        return _json({"prompt": answer.text})

    @router.get("/props", response_class=Response)
    async def props(model: ModelName | None = None) -> Response:
        """What a model is and how it is served: its slots, its context, its chat template, its sampling defaults."""
        served = gateway.router.resolve(model)
        answer = await gateway.ask(served, DescribeText())
        info = served.client.info
        assert info is not None, "it has just answered"
        bos, eos = (piece.decode("utf-8", errors="replace") for piece in answer.pieces)
        return _json(
            {
                "default_generation_settings": {"n_ctx": info.ctx, "params": settings_of(SamplingParams())},
                "total_slots": info.slots,
                "model_alias": served.id,
                "model_ftype": info.quantization,
                "chat_template": answer.text,
                "bos_token": bos,
                "eos_token": eos,
                "modalities": {"vision": False, "audio": False},
                "build_info": f"appliance {version('appliance')}",
            }
        )

    return router


def _with_pieces(answer: Answered) -> list[dict[str, Any]]:
    return [
        {"id": token, "piece": _text_or_bytes(piece)} for token, piece in zip(answer.tokens, answer.pieces, strict=True)
    ]


def _text_or_bytes(piece: bytes) -> str | list[int]:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return list(piece)


def _json(record: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(record), media_type="application/json")
