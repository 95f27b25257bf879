"""The request of /v1/messages, and that of its token count, to what is asked of a model.

Knows no response. Source: https://docs.claude.com/en/api/messages
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, Field

from appliance.api.anthropic.blocks import TextBlocks
from appliance.api.anthropic.claude_code import is_probe
from appliance.api.anthropic.conversation import Turn, continues_last, messages_of
from appliance.api.anthropic.thinking import OutputFields
from appliance.api.anthropic.tools import MessageTools
from appliance.api.fields.chat_messages import MAX_MESSAGES
from appliance.api.fields.neutral import Hint, NeutralOnly
from appliance.api.fields.other_servers import OtherServersFields
from appliance.api.fields.parameters import (
    MAX_TOKENS_NAMES,
    UNLIMITED,
    SeedField,
    StopField,
)
from appliance.api.fields.request import MAX_INT32, RequestModel
from appliance.api.fields.retention import RetentionFields
from appliance.api.fields.samplers import SamplerFields
from appliance.api.fields.timeouts import TimeoutField
from appliance.errors import BadRequest
from appliance.protocol.requests import ChatPrompt, GenerateRequest
from appliance.protocol.sampling import SamplingParams


class _Hints(RequestModel):
    """About cost, place, caching or what is reported beside the response."""

    anthropic_beta: Hint = None
    cache_control: Hint = None  # every prefix is looked for in the cache
    context_management: Hint = None  # nothing is cleared or compacted
    diagnostics: Hint = None
    inference_geo: Hint = None
    speed: Hint = None
    user_profile_id: Hint = None


class ConversationFields(MessageTools, OutputFields, OtherServersFields, _Hints):
    """What a count and a response have in common: all of the prompt."""

    model: Annotated[str, Field(max_length=256)] | None = None
    messages: Annotated[list[Turn], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    system: TextBlocks | None = None

    container: Annotated[Any, NeutralOnly()] = None
    mcp_servers: Annotated[Any, NeutralOnly([])] = None

    def chat_prompt(self) -> ChatPrompt:
        """Raises `BadRequest`."""
        messages = messages_of(self.system or (), self.messages)
        if not messages:
            raise BadRequest("There is nothing to respond to: the messages are empty.")
        return ChatPrompt(
            messages=messages,
            tools=[function.for_template() for function in self.shown_tools()] or None,
            arguments=self.arguments(),
            continue_final_message=continues_last(messages),
        )


class CountRequest(ConversationFields):
    """Who counts may send the whole request: what is no part of the prompt is taken."""

    max_tokens: Hint = None
    stream: Hint = None
    stop_sequences: Hint = None
    temperature: Hint = None
    timeout: Hint = None
    top_k: Hint = None
    top_p: Hint = None


class MessagesRequest(ConversationFields, SamplerFields, RetentionFields, TimeoutField):
    max_tokens: Annotated[
        Annotated[int, Field(ge=UNLIMITED, le=MAX_INT32)] | None,
        Field(validation_alias=MAX_TOKENS_NAMES),
    ] = None
    stop_sequences: Annotated[
        StopField | None, Field(validation_alias=AliasChoices("stop_sequences", "stop"))
    ] = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: SeedField = None
    exact: bool | None = None  # as in chat completions
    stream: bool | None = None

    # What other endpoints have.
    frequency_penalty: Annotated[Any, NeutralOnly(0)] = None
    grammar: Annotated[Any, NeutralOnly("")] = None
    json_schema: Annotated[Any, NeutralOnly()] = None
    logit_bias: Annotated[Any, NeutralOnly({})] = None
    logprobs: Annotated[Any, NeutralOnly(False)] = None
    n: Annotated[Any, NeutralOnly(1)] = None
    presence_penalty: Annotated[Any, NeutralOnly(0)] = None
    response_format: Annotated[Any, NeutralOnly({"type": "text"})] = None
    structured_outputs: Annotated[Any, NeutralOnly()] = None

    @property
    def most_tokens(self) -> int | None:
        """Of the answer; 0 computes the prompt alone, for those who come after it."""
        return None if self.max_tokens == UNLIMITED else self.max_tokens

    def is_probe(self, user_agent: str) -> bool:
        """See `claude_code`."""
        texts = [
            getattr(block, "text", "") for message in self.messages for block in message.content
        ]
        return is_probe(user_agent, self.most_tokens, texts)

    def to_generate_request(self) -> GenerateRequest:
        """Raises `BadRequest`."""
        grammar = self.grammar_of_answer()
        self.refuse_endless_form(has_form=grammar is not None)
        given = {"temperature": self.temperature, "top_p": self.top_p, "seed": self.seed}
        own: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return GenerateRequest(
            prompt=self.chat_prompt(),
            sampling=SamplingParams(**{**own, **self.given_samplers()}),
            max_tokens=self.most_tokens,
            stop=self.stop_sequences or [],
            grammar=grammar,
            tool_calls=self.tool_call_rules(),
            uses_cache=self.uses_cache,
            is_exact=self.exact,
            keep_alive_s=self.keep_alive,
            max_reasoning_tokens=self.max_reasoning_tokens(),
            may_lack_reasoning=self.reasoning_budget is None,  # which is our own name
            **self.adapters,
        )
