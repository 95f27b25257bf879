"""POST /v1/completions: its request to a GenerateRequest, and events to its answers. Knows no sampling and no HTTP.

Source: https://platform.openai.com/docs/api-reference/completions/create
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter
from msgspec import UNSET, UnsetType
from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from appliance.api import sse
from appliance.api.answer import StreamedAnswer, WholeAnswer
from appliance.api.body import StrictJsonRoute
from appliance.api.errors import RESPONSES
from appliance.api.openai.parameters import GenerationParameters, Only, TokenId
from appliance.api.openai.wire import Heading, TextChoice, TextCompletion, Usage, encode, usage_of
from appliance.gateway.lifecycle import Gateway
from appliance.worker.messages import (
    Delta,
    Event,
    Finished,
    GenerateRequest,
    Started,
    TextPrompt,
    TokenPrompt,
)

DEFAULT_MAX_TOKENS = 16  # OpenAI's

# --- request -------------------------------------------------------------------------------------------------------


def _one_prompt(prompts: list[Any]) -> list[Any]:
    if len(prompts) > 1:
        raise PydanticCustomError(
            "unsupported_parameter", "Several prompts in one request are not supported yet: send one at a time."
        )
    return prompts


def _prompt_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "<text>"
    if not isinstance(value, list):
        return None
    if value and isinstance(value[0], str):
        return "<texts>"
    if value and isinstance(value[0], list):
        return "<token lists>"
    return "<tokens>"


_Tokens = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]

Prompt = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[str], Field(fail_fast=True), AfterValidator(_one_prompt), Tag("<texts>")]
    | Annotated[_Tokens, Tag("<tokens>")]
    | Annotated[list[_Tokens], Field(fail_fast=True), AfterValidator(_one_prompt), Tag("<token lists>")],
    Discriminator(
        _prompt_kind,
        custom_error_type="invalid_value",
        custom_error_message="The prompt must be a string or a list of token ids",
    ),
]


class CompletionRequest(GenerationParameters):
    prompt: Prompt

    best_of: Annotated[Any, Only(1)] = None
    echo: Annotated[Any, Only(False)] = None
    logprobs: Annotated[Any, Only()] = None  # 0 asks for the sampled token's
    suffix: Annotated[Any, Only("")] = None

    def to_generate_request(self) -> GenerateRequest:
        return GenerateRequest(
            prompt=self._prompt(),
            sampling=self.sampling(),
            max_tokens=DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens,
            stop=self.stop or [],
        )

    def _prompt(self) -> TextPrompt | TokenPrompt:
        if isinstance(self.prompt, str):
            return TextPrompt(self.prompt)
        first = self.prompt[0]
        if isinstance(first, str):
            return TextPrompt(first)
        if isinstance(first, list):
            return TokenPrompt(first)
        return TokenPrompt([token for token in self.prompt if isinstance(token, int)])


# --- answer --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CompletionFormat:
    """One answer's events as bytes. With `includes_usage` the stream ends with the token counts."""

    heading: Heading
    includes_usage: bool = False

    def chunk(self, event: Event) -> bytes:
        """The server-sent events for one event; empty when there is nothing to say."""
        usage = None if self.includes_usage else UNSET
        if isinstance(event, Delta):
            return sse.frame(self._record([TextChoice(text=event.text)], usage)) if event.text else b""
        if isinstance(event, Started):
            return b""
        assert isinstance(event, Finished), "a Client raises what failed"
        last = sse.frame(self._record([TextChoice(text="", finish_reason=event.reason.value)], usage))
        counts = sse.frame(self._record([], usage_of(event.usage))) if self.includes_usage else b""
        return last + counts + sse.DONE

    def whole(self, text: str, finished: Finished) -> bytes:
        return encode(
            self._record([TextChoice(text=text, finish_reason=finished.reason.value)], usage_of(finished.usage))
        )

    def _record(self, choices: list[TextChoice], usage: Usage | UnsetType | None) -> TextCompletion:
        heading = self.heading
        return TextCompletion(
            id=heading.id,
            created=heading.created,
            model=heading.model,
            system_fingerprint=heading.system_fingerprint,
            choices=choices,
            usage=usage,
        )


def completion_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["openai"], route_class=StrictJsonRoute)

    @router.post("/v1/completions", responses=RESPONSES)
    async def create_completion(request: CompletionRequest) -> Response:
        """Continues a text, whole or, with `stream`, as server-sent events."""
        model = await gateway.router.resolve(request.model)
        answer = CompletionFormat(Heading.of("cmpl", model), request.includes_usage)
        events = gateway.generate(model, request.to_generate_request())
        return StreamedAnswer(events, answer.chunk) if request.stream else WholeAnswer(events, answer.whole)

    return router
