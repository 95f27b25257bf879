"""The fields of POST /v1/responses, and the GenerateRequest that they ask for.

Knows no events, and nothing that is stored: all items are in it by then.

Source: https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

import secrets
import time
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from appliance.api.fields.chat_messages import MAX_MESSAGES
from appliance.api.fields.neutral import Hint, NeutralOnly
from appliance.api.fields.other_servers import OtherServersFields
from appliance.api.fields.parameters import (
    MaxTokens,
    SeedField,
)
from appliance.api.fields.reasoning import ReasoningEffort, ReasoningFields
from appliance.api.fields.request import LabelledModel, RequestModel
from appliance.api.fields.retention import RetentionFields
from appliance.api.fields.samplers import SamplerFields
from appliance.api.fields.structured import JsonSchema, SchemaName, schema_grammar
from appliance.api.fields.text_or_list import TEXT, text_or_list
from appliance.api.fields.timeouts import TimeoutField
from appliance.api.openai.logprobs import MAX_CHAT_TOP_LOGPROBS
from appliance.api.openai.responses.items import Item, MessageItem, messages_of
from appliance.api.openai.responses.tools import CalledName, ResponseTools
from appliance.api.openai.responses.wire import ResponseRecord
from appliance.errors import BadRequest
from appliance.gateway.router import ServedModel
from appliance.protocol.requests import ChatPrompt, GenerateRequest, Grammar
from appliance.protocol.sampling import SamplingParams

_LOGPROBS = "message.output_text.logprobs"


ObjectId = Annotated[str, Field(min_length=1, max_length=256)]


ResponsesInput = Annotated[
    Annotated[str, Tag(TEXT)]
    | Annotated[list[Item], Field(max_length=MAX_MESSAGES, fail_fast=True), Tag("<items>")],
    text_or_list("<items>", "It must be a string or a list of items"),
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


class TextOptions(LabelledModel):
    format: (
        Annotated[
            Annotated[PlainTextFormat, Tag(TEXT)] | Annotated[JsonSchemaFormat, Tag("<schema>")],
            Discriminator(
                _format_kind,
                custom_error_type="invalid_value",
                custom_error_message="Its 'type' must be 'text', 'json_object' or 'json_schema'",
            ),
        ]
        | None
    ) = None
    verbosity: Hint = None

    def grammar(self) -> Grammar | None:
        if isinstance(self.format, JsonSchemaFormat):
            return schema_grammar(
                self.format.schema_, "text.format.schema", is_strict=self.format.strict is True
            )
        if self.format is not None and self.format.type == "json_object":
            return schema_grammar({"type": "object"}, "text.format")
        return None


class ReasoningOptions(LabelledModel):
    """Summaries describe reasoning that is hidden; here it is not, so there are none."""

    effort: ReasoningEffort | None = None
    summary: Hint = None
    generate_summary: Hint = None


class ConversationRef(LabelledModel):
    id: ObjectId


def _ref(value: object) -> object:
    """Its id may be sent alone."""
    return {"id": value} if isinstance(value, str) else value


class ResponsesRequest(
    ResponseTools,
    ReasoningFields,
    SamplerFields,
    RetentionFields,
    TimeoutField,
    OtherServersFields,
):
    model: Annotated[str, Field(max_length=256)] | None = None
    previous_response_id: ObjectId | None = None
    conversation: Annotated[ConversationRef | None, BeforeValidator(_ref)] = None
    # after what it may continue
    input: Annotated[ResponsesInput | None, Field(validate_default=True)] = None
    instructions: str | None = None
    max_output_tokens: Annotated[
        MaxTokens,
        Field(
            validation_alias=AliasChoices(
                "max_output_tokens", "max_tokens", "max_completion_tokens"
            )
        ),
    ] = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_CHAT_TOP_LOGPROBS)] | None = None
    seed: SeedField = None
    exact: bool | None = None  # as in chat completions
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    include: Annotated[list[str], Field(max_length=64)] | None = None  # of what may be there
    stream: bool | None = None
    stream_options: Hint = None  # how its events are padded

    store: bool | None = None  # None: as the server does
    background: bool | None = None

    user: Hint = None
    client_metadata: Hint = None  # Codex's
    truncation: Hint = None  # nothing is truncated, and the response says so
    max_tool_calls: Hint = None  # of tools that the server runs: there are none

    # What other endpoints have.
    format: Annotated[Any, NeutralOnly("")] = None
    frequency_penalty: Annotated[Any, NeutralOnly(0)] = None
    grammar: Annotated[Any, NeutralOnly("")] = None
    guided_choice: Annotated[Any, NeutralOnly()] = None
    guided_grammar: Annotated[Any, NeutralOnly("")] = None
    guided_json: Annotated[Any, NeutralOnly()] = None
    guided_regex: Annotated[Any, NeutralOnly("")] = None
    json_schema: Annotated[Any, NeutralOnly()] = None
    logit_bias: Annotated[Any, NeutralOnly({})] = None
    logprobs: Annotated[Any, NeutralOnly(False)] = None
    messages: Annotated[Any, NeutralOnly()] = None
    n: Annotated[Any, NeutralOnly(1)] = None
    presence_penalty: Annotated[Any, NeutralOnly(0)] = None
    reasoning_effort: ReasoningEffort | None = None
    regex: Annotated[Any, NeutralOnly("")] = None
    response_format: Annotated[Any, NeutralOnly({"type": "text"})] = None
    stop: Annotated[Any, NeutralOnly("", [])] = None
    structured_outputs: Annotated[Any, NeutralOnly()] = None

    context_management: Annotated[Any, NeutralOnly([])] = None
    prompt: Annotated[Any, NeutralOnly()] = None

    @field_validator("input")
    @classmethod
    def _there_unless_it_continues(
        cls, value: ResponsesInput | None, info: ValidationInfo
    ) -> ResponsesInput | None:
        is_there = value is not None and value != []
        if is_there or info.data.get("previous_response_id") or info.data.get("conversation"):
            return value
        if value is None:
            raise PydanticCustomError("missing", "It is required")
        raise PydanticCustomError("invalid_value", "It must have at least one item")

    @property
    def includes_logprobs(self) -> bool:
        return bool(self.top_logprobs) or _LOGPROBS in (self.include or [])

    @property
    def _own_effort(self) -> str | None:
        own = None if self.reasoning is None else self.reasoning.effort
        return self.reasoning_effort if own is None else own

    def to_generate_request(self) -> GenerateRequest:
        """Raises `BadRequest`."""
        grammar = None if self.text is None else self.text.grammar()
        self.refuse_endless_form(has_form=grammar is not None)
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
            is_exact=self.exact,
            keep_alive_s=self.keep_alive,
            max_reasoning_tokens=self.max_reasoning_tokens(),
            **self.adapters,
        )

    def items(self) -> list[Item]:
        said = self.input
        if isinstance(said, str):
            return [MessageItem(role="user", content=said)]
        return [*(said or ())]

    def _prompt(self) -> ChatPrompt:
        items = self.items()
        if not items:
            raise BadRequest(
                "The conversation has no items yet: send some as 'input'.", param="input"
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
            arguments=self.template_arguments(),
            continue_final_message=continue_final_message,
            reasoning_effort=self.effort(self._own_effort),
        )

    def called_names(self) -> dict[str, CalledName]:
        """What the client calls each function, by the name that the model knows."""
        return {shown: name for name, shown in self.shown_names().items()}

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
            metadata=self.metadata if isinstance(self.metadata, dict) else {},
            parallel_tool_calls=self.parallel_tool_calls is not False,
            reasoning={
                "effort": self.effort(self._own_effort),
                "summary": None,
            },
            temperature=self.temperature,
            text={"format": (asked["text"] or {}).get("format") or {"type": "text"}},
            tool_choice=asked["tool_choice"] or "auto",
            tools=asked["tools"] or [],
            top_logprobs=self.top_logprobs or 0,
            top_p=self.top_p,
            user=self.user if isinstance(self.user, str) else None,
            previous_response_id=self.previous_response_id,
            conversation=None if self.conversation is None else {"id": self.conversation.id},
        )
