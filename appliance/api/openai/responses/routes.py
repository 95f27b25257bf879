"""POST /v1/responses: its request to a GenerateRequest.

Knows no events; nothing is stored: each request is whole.

Source: https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

import secrets
import time
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from starlette.responses import Response

from appliance.api.fields.chat_messages import MAX_MESSAGES
from appliance.api.fields.parameters import (
    Label,
    Metadata,
    NeutralOnly,
    ReasoningEffort,
    TemplateArguments,
)
from appliance.api.fields.request import RequestModel, TokenCount
from appliance.api.fields.retention import RetentionFields
from appliance.api.fields.samplers import SamplerFields
from appliance.api.fields.structured import JsonSchema, SchemaName, schema_grammar
from appliance.api.format_router import FormatRouter
from appliance.api.openai.logprobs import MAX_CHAT_TOP_LOGPROBS
from appliance.api.openai.responses.items import Item, MessageItem, messages_of
from appliance.api.openai.responses.stream import ResponsesFormat
from appliance.api.openai.responses.tools import ResponseTools
from appliance.api.openai.responses.wire import ResponseRecord, StreamEvent
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.computed_response import WholeResponse
from appliance.api.transport.streamed_response import StreamedResponse
from appliance.errors import BadRequest
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import ServedModel
from appliance.protocol.requests import ChatPrompt, GenerateRequest, Grammar
from appliance.protocol.sampling import SamplingParams

_LOGPROBS = "message.output_text.logprobs"


def _input_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<items>" if isinstance(value, list) else None


ResponsesInput = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[
        list[Item], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True), Tag("<items>")
    ],
    Discriminator(
        _input_kind,
        custom_error_type="invalid_value",
        custom_error_message="It must be a string or a list of items",
    ),
]


class PlainTextFormat(RequestModel):
    type: Literal["text", "json_object"]


class JsonSchemaFormat(RequestModel):
    type: Literal["json_schema"]
    name: SchemaName
    description: Annotated[str, Field(max_length=4096)] | None = None
    schema_: Annotated[JsonSchema, Field(alias="schema")]
    strict: bool | None = None


def _format_kind(value: object) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    return {"text": "<text>", "json_object": "<text>", "json_schema": "<schema>"}.get(str(kind))


class TextOptions(RequestModel):
    format: (
        Annotated[
            Annotated[PlainTextFormat, Tag("<text>")]
            | Annotated[JsonSchemaFormat, Tag("<schema>")],
            Discriminator(
                _format_kind,
                custom_error_type="invalid_value",
                custom_error_message="Its 'type' must be 'text', 'json_object' or 'json_schema'",
            ),
        ]
        | None
    ) = None
    verbosity: Annotated[Any, NeutralOnly("medium")] = None

    def grammar(self) -> Grammar | None:
        if isinstance(self.format, JsonSchemaFormat):
            return schema_grammar(self.format.schema_, "text.format.schema")
        if self.format is not None and self.format.type == "json_object":
            return schema_grammar({"type": "object"}, "text.format")
        return None


class ReasoningOptions(RequestModel):
    """Summaries describe reasoning that is hidden;
    here it is not, so `auto` gives none.
    """

    effort: ReasoningEffort | None = None
    summary: Annotated[Any, NeutralOnly("auto")] = None
    generate_summary: Annotated[Any, NeutralOnly("auto")] = None


class ResponsesStreamOptions(RequestModel):
    include_obfuscation: Annotated[Any, NeutralOnly(False)] = None


class ResponsesRequest(ResponseTools, SamplerFields, RetentionFields):
    model: Annotated[str, Field(max_length=256)] | None = None
    input: ResponsesInput
    instructions: str | None = None
    max_output_tokens: TokenCount | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_CHAT_TOP_LOGPROBS)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = (
        None
    )
    stream: bool | None = None
    stream_options: ResponsesStreamOptions | None = None
    chat_template_kwargs: TemplateArguments | None = None

    # Labels and hints that do not change the response, as documented.
    user: Label | None = None
    metadata: Metadata | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    client_metadata: dict[str, Any] | None = None  # Codex's

    background: Annotated[Any, NeutralOnly(False)] = None
    context_management: Annotated[Any, NeutralOnly([])] = None
    conversation: Annotated[Any, NeutralOnly()] = None
    max_tool_calls: Annotated[Any, NeutralOnly()] = None
    previous_response_id: Annotated[Any, NeutralOnly()] = None
    prompt: Annotated[Any, NeutralOnly()] = None
    prompt_cache_retention: Annotated[Any, NeutralOnly("in_memory")] = None
    service_tier: Annotated[Any, NeutralOnly("auto", "default")] = None
    store: Annotated[Any, NeutralOnly(False)] = None
    truncation: Annotated[Any, NeutralOnly("disabled")] = None

    @property
    def includes_logprobs(self) -> bool:
        return bool(self.top_logprobs) or _LOGPROBS in (self.include or [])

    def to_generate_request(self) -> GenerateRequest:
        """Raises `BadRequest`."""
        grammar = None if self.text is None else self.text.grammar()
        if grammar is not None and self.ignore_eos:
            raise BadRequest(
                "'ignore_eos' cannot be combined with a structured format, which decides where the "
                "response ends: leave it out.",
                param="ignore_eos",
            )
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "num_top_logprobs": (self.top_logprobs or 0) if self.includes_logprobs else None,
        }
        own: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return GenerateRequest(
            prompt=self._prompt(),
            sampling=SamplingParams(**{**own, **self.given_samplers()}),
            max_tokens=self.max_output_tokens,
            grammar=grammar,
            tool_calls=self.tool_call_rules(),
            uses_cache=self.uses_cache,
            keep_alive_s=self.keep_alive,
        )

    def _prompt(self) -> ChatPrompt:
        said = self.input
        items: list[Item] = (
            [MessageItem(role="user", content=said)] if isinstance(said, str) else [*said]
        )
        if self.instructions is not None:
            items.insert(0, MessageItem(role="system", content=self.instructions))
        messages = messages_of(items, self.shown_names())
        last = messages[-1]
        continue_final_message = last["role"] == "assistant" and "tool_calls" not in last
        if continue_final_message and last["content"] is None:
            raise BadRequest(
                "'input' must not end with a reasoning item: add a message to respond to.",
                param="input",
            )
        return ChatPrompt(
            messages=messages,
            tools=[function.for_template() for function in self.shown_tools()] or None,
            arguments=self.chat_template_kwargs or {},
            continue_final_message=continue_final_message,
            reasoning_effort=None if self.reasoning is None else self.reasoning.effort,
        )

    def record(self, model: ServedModel) -> ResponseRecord:
        """The response as it is before its first event: what was asked."""
        # pydantic warns of unions that are told apart by functions
        shown = {"text", "tools", "tool_choice"}
        asked = self.model_dump(mode="json", by_alias=True, include=shown, warnings=False)
        return ResponseRecord(
            id=f"resp_{secrets.token_hex(24)}",
            created_at=int(time.time()),
            status="in_progress",
            model=model.id,
            output=[],
            instructions=self.instructions,
            max_output_tokens=self.max_output_tokens,
            metadata=self.metadata or {},
            parallel_tool_calls=self.parallel_tool_calls is not False,
            reasoning={
                "effort": None if self.reasoning is None else self.reasoning.effort,
                "summary": None,
            },
            temperature=self.temperature,
            text={"format": (asked["text"] or {}).get("format") or {"type": "text"}},
            tool_choice=asked["tool_choice"] or "auto",
            tools=asked["tools"] or [],
            top_logprobs=self.top_logprobs or 0,
            top_p=self.top_p,
            user=self.user,
        )


def response_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("openai")
    described = router.returns(ResponseRecord, stream=StreamEvent)

    @router.post("/v1/responses", responses=described)
    async def create_response(request: ResponsesRequest, caller: RequestCaller) -> Response:
        """Responds to a conversation of items, whole or,
        with `stream`, as server-sent events.

        Nothing is stored.
        """
        model = gateway.router.resolve(request.model)
        called = {shown: name for name, shown in request.shown_names().items()}
        responses = ResponsesFormat(
            request.record(model), called, includes_logprobs=request.includes_logprobs
        )
        events = gateway.generate_choices(caller, model, [request.to_generate_request()])
        if request.stream:
            return StreamedResponse(events, responses)
        return WholeResponse(events, responses)

    return router
