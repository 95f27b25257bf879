"""llama.cpp's own helpers: /tokenize, /detokenize, /apply-template, /props.

Knows no sampling.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md. Of
several models `model` names one.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from pydantic import Field
from starlette.responses import Response

from appliance.api.fields.chat_messages import MAX_MESSAGES, InputMessage, chat_prompt
from appliance.api.fields.reasoning import ReasoningEffort, ReasoningFields
from appliance.api.fields.request import RequestModel, TokenId
from appliance.api.fields.tools import ToolFields
from appliance.api.format_router import FormatRouter
from appliance.api.llamacpp.errors import LLAMA_ERRORS
from appliance.api.llamacpp.parameters import native_settings
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import ServedModel
from appliance.protocol.events import AskResult
from appliance.protocol.model_info import ModelInfo
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


class ApplyTemplateRequest(ToolFields, ReasoningFields):
    messages: Annotated[
        list[InputMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    ]
    reasoning_effort: ReasoningEffort | None = None
    model: ModelName | None = None


class TokenPiece(msgspec.Struct):
    id: int
    piece: Annotated[
        str | list[int], Meta(description="Its text, as bytes if it is not a whole character.")
    ]


class TokensRecord(msgspec.Struct):
    tokens: list[int | TokenPiece]


class ContentRecord(msgspec.Struct):
    content: str


class PromptRecord(msgspec.Struct):
    prompt: str


class DefaultSettings(msgspec.Struct):
    n_ctx: int
    params: dict[str, Any]


class Modalities(msgspec.Struct, frozen=True):
    vision: bool = False
    video: bool = False
    audio: bool = False


class PropsRecord(msgspec.Struct, kw_only=True):
    default_generation_settings: DefaultSettings
    total_slots: int
    model_alias: str
    model_ftype: str
    chat_template: str
    chat_template_tool_use: str | msgspec.UnsetType = msgspec.UNSET  # where there is one
    tool_use: Annotated[
        str,
        Meta(
            description="How functions are shown to the model: by its chat template (native), "
            "in its messages (generic), or not at all (none)."
        ),
    ]
    exact_rows: Annotated[
        bool,
        Meta(
            description="No answer depends on what is computed beside it, cached or drafted: "
            "requests may say `exact: true`."
        ),
    ]
    bos_token: str
    eos_token: str
    modalities: Modalities = Modalities()
    model_path: Annotated[
        str, Meta(description="The model's id: where its file lies is nobody's business.")
    ]
    endpoint_slots: bool = True
    endpoint_props: Annotated[bool, Meta(description="Whether properties may be changed.")] = False
    endpoint_metrics: bool = True
    is_sleeping: bool = False
    build_info: str


def native_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("llama.cpp", error_shape=LLAMA_ERRORS)

    @router.post("/tokenize", response_class=Response, responses=router.returns(TokensRecord))
    async def tokenize(request: TokenizeRequest, caller: RequestCaller) -> Response:
        """The token ids of a text; with `with_pieces` also the text of each token, as
        bytes if it is not a whole character.
        """
        question = Tokenize(TextPrompt(request.content), request.add_special, request.parse_special)
        result = await gateway.ask(
            caller, gateway.models_of(caller).resolve(request.model), question
        )
        return RecordResponse(
            TokensRecord(_with_pieces(result) if request.with_pieces else [*result.tokens])
        )

    @router.post("/detokenize", response_class=Response, responses=router.returns(ContentRecord))
    async def detokenize(request: DetokenizeRequest, caller: RequestCaller) -> Response:
        """The text of token ids."""
        result = await gateway.ask(
            caller,
            gateway.models_of(caller).resolve(request.model),
            Detokenize(request.tokens),
        )
        return RecordResponse(ContentRecord(result.text))

    @router.post("/apply-template", response_class=Response, responses=router.returns(PromptRecord))
    async def apply_template(request: ApplyTemplateRequest, caller: RequestCaller) -> Response:
        """A conversation rendered by the model's chat template: the prompt that
        /v1/chat/completions would use.
        """
        tools = [function.for_template() for function in request.shown_tools()]
        prompt = chat_prompt(
            request.messages,
            request.template_arguments(),
            tools,
            request.effort(request.reasoning_effort),
        )
        result = await gateway.ask(
            caller, gateway.models_of(caller).resolve(request.model), RenderChat(prompt)
        )
        return RecordResponse(PromptRecord(result.text))

    @router.get("/props", response_class=Response, responses=router.returns(PropsRecord))
    async def props(caller: RequestCaller, model: ModelName | None = None) -> Response:
        """A model's properties and how it is served: slots, context, chat template,
        sampling defaults.
        """
        served = gateway.models_of(caller).resolve(model)
        result = await gateway.ask(caller, served, DescribeText())
        info = served.client.info
        assert info is not None, "it has just answered"
        return RecordResponse(_props(served, info, result))

    return router


def _props(served: ServedModel, info: ModelInfo, text: AskResult) -> PropsRecord:
    bos, eos, tool_use = (piece.decode("utf-8", errors="replace") for piece in text.pieces)
    return PropsRecord(
        default_generation_settings=DefaultSettings(info.ctx, native_settings(SamplingParams())),
        total_slots=info.slots,
        model_alias=served.id,
        model_ftype=info.quantization,
        chat_template=text.text,
        chat_template_tool_use=tool_use or msgspec.UNSET,
        tool_use=info.tool_use,
        exact_rows=info.exact_rows,
        bos_token=bos,
        eos_token=eos,
        model_path=served.id,
        build_info=f"appliance {version('appliance')}",
    )


def _with_pieces(result: AskResult) -> list[int | TokenPiece]:
    return [
        TokenPiece(token, _text_or_bytes(piece))
        for token, piece in zip(result.tokens, result.pieces, strict=True)
    ]


def _text_or_bytes(piece: bytes) -> str | list[int]:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return list(piece)
