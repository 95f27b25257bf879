"""llama.cpp's own helpers: /tokenize, /detokenize, /apply-template, /props. Knows no sampling.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md. Of
several models `model` names one.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from appliance.api.description import answers
from appliance.api.errors import RESPONSES
from appliance.api.fields.parameters import ReasoningEffort, TemplateArguments, settings_of
from appliance.api.fields.request import RequestModel, TokenId
from appliance.api.fields.tools import ToolFields
from appliance.api.openai.chat_messages import MAX_MESSAGES, Message, chat_prompt
from appliance.api.transport.body import StrictJsonRoute
from appliance.gateway.lifecycle import Gateway
from appliance.protocol.events import AskResult
from appliance.protocol.questions import DescribeText, Detokenize, RenderChat, Tokenize
from appliance.protocol.requests import TextPrompt
from appliance.protocol.sampling import SamplingParams

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


class TokenPiece(msgspec.Struct):
    """`piece` is a token's text, as bytes where it is no whole character."""

    id: int
    piece: str | list[int]


class Tokens(msgspec.Struct):
    tokens: list[int | TokenPiece]


class Content(msgspec.Struct):
    content: str


class Prompt(msgspec.Struct):
    prompt: str


class DefaultSettings(msgspec.Struct):
    n_ctx: int
    params: dict[str, Any]


class Modalities(msgspec.Struct, frozen=True):
    vision: bool = False
    audio: bool = False


class Props(msgspec.Struct, kw_only=True):
    default_generation_settings: DefaultSettings
    total_slots: int
    model_alias: str
    model_ftype: str
    chat_template: str
    bos_token: str
    eos_token: str
    modalities: Modalities = Modalities()
    build_info: str


def native_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["llama.cpp"], route_class=StrictJsonRoute, responses=RESPONSES)

    @router.post("/tokenize", response_class=Response, responses=answers(Tokens))
    async def tokenize(request: TokenizeRequest) -> Response:
        """Token ids of a text; with `with_pieces` each one's text too, as bytes where
        it is no whole character.
        """
        question = Tokenize(TextPrompt(request.content), request.add_special, request.parse_special)
        answer = await gateway.ask(gateway.router.resolve(request.model), question)
        return _json(Tokens(_with_pieces(answer) if request.with_pieces else [*answer.tokens]))

    @router.post("/detokenize", response_class=Response, responses=answers(Content))
    async def detokenize(request: DetokenizeRequest) -> Response:
        """The text of token ids."""
        answer = await gateway.ask(
            gateway.router.resolve(request.model), Detokenize(request.tokens)
        )
        return _json(Content(answer.text))

    @router.post("/apply-template", response_class=Response, responses=answers(Prompt))
    async def apply_template(request: ApplyTemplateRequest) -> Response:
        """What a conversation reads after the model's chat template: the prompt of
        /v1/chat/completions.
        """
        tools = [function.for_template() for function in request.shown_tools()]
        prompt = chat_prompt(
            request.messages, request.chat_template_kwargs, tools, request.reasoning_effort
        )
        answer = await gateway.ask(gateway.router.resolve(request.model), RenderChat(prompt))
        return _json(Prompt(answer.text))

    @router.get("/props", response_class=Response, responses=answers(Props))
    async def props(model: ModelName | None = None) -> Response:
        """What a model is and how it is served: its slots, its context, its chat
        template, its sampling defaults.
        """
        served = gateway.router.resolve(model)
        answer = await gateway.ask(served, DescribeText())
        info = served.client.info
        assert info is not None, "it has just answered"
        bos, eos = (piece.decode("utf-8", errors="replace") for piece in answer.pieces)
        return _json(
            Props(
                default_generation_settings=DefaultSettings(
                    info.ctx, settings_of(SamplingParams())
                ),
                total_slots=info.slots,
                model_alias=served.id,
                model_ftype=info.quantization,
                chat_template=answer.text,
                bos_token=bos,
                eos_token=eos,
                build_info=f"appliance {version('appliance')}",
            )
        )

    return router


def _with_pieces(answer: AskResult) -> list[int | TokenPiece]:
    return [
        TokenPiece(token, _text_or_bytes(piece))
        for token, piece in zip(answer.tokens, answer.pieces, strict=True)
    ]


def _text_or_bytes(piece: bytes) -> str | list[int]:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return list(piece)


def _json(record: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(record), media_type="application/json")
