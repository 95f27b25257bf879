"""POST /v1/completions: its request to a GenerateRequest, and events to its answers. Knows no sampling and no HTTP.

Source: https://platform.openai.com/docs/api-reference/completions/create
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter
from msgspec import UNSET, UnsetType
from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from appliance.api import sse
from appliance.api.answer import StreamedAnswer, WholeAnswer, WholeChoice
from appliance.api.body import StrictJsonRoute
from appliance.api.errors import RESPONSES
from appliance.api.openai.logprobs import MAX_TEXT_LOGPROBS, text_logprobs
from appliance.api.openai.parameters import GenerationParameters, Only
from appliance.api.openai.request import MAX_INT32, TokenId
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
    logprobs: Annotated[int, Field(ge=0, le=MAX_TEXT_LOGPROBS)] | None = None  # 0 asks for the sampled token's alone

    best_of: Annotated[int, Field(ge=1, le=MAX_INT32)] | None = None
    echo: Annotated[Any, Only(False)] = None
    suffix: Annotated[Any, Only("")] = None

    @field_validator("best_of")
    @classmethod
    def _as_many_as_are_returned(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and "n" in info.data and value != (info.data["n"] or 1):
            raise PydanticCustomError(
                "unsupported_parameter",
                "Choosing among more answers than are returned is not supported yet: leave it out or send what 'n' is.",
            )
        return value

    def to_generate_request(self) -> GenerateRequest:
        return GenerateRequest(
            prompt=self._prompt(),
            sampling=self.sampling(self.logprobs),
            max_tokens=DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens,
            stop=self.stop or [],
            shifts_context=bool(self.context_shift),
            keeps_prefix=self.cache == "keep",
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
    """A request's answers as bytes; see `AnswerFormat`. With `includes_usage` the stream ends with the token counts."""

    heading: Heading
    includes_usage: bool = False
    tells_logprobs: bool = False

    def chunk(self, index: int, event: Event) -> bytes:
        if isinstance(event, Delta):
            logprobs = text_logprobs(event.tokens) if event.tokens else None
            if not event.text and logprobs is None:
                return b""
            return self._frame(TextChoice(index=index, text=event.text, logprobs=logprobs))
        if isinstance(event, Started):
            return b""
        assert isinstance(event, Finished), "a Client raises what failed"
        return self._frame(TextChoice(index=index, text="", finish_reason=event.reason.value))

    def end(self, finished: Sequence[Finished]) -> bytes:
        return (sse.frame(self._record([], usage_of(finished))) if self.includes_usage else b"") + sse.DONE

    def whole(self, choices: Sequence[WholeChoice]) -> bytes:
        answers = [self._choice(index, choice) for index, choice in enumerate(choices)]
        return encode(self._record(answers, usage_of([choice.finished for choice in choices])))

    def _choice(self, index: int, choice: WholeChoice) -> TextChoice:
        return TextChoice(
            index=index,
            text=choice.text,
            logprobs=text_logprobs(choice.tokens or []) if self.tells_logprobs else None,
            finish_reason=choice.finished.reason.value,
        )

    def _frame(self, choice: TextChoice) -> bytes:
        return sse.frame(self._record([choice], None if self.includes_usage else UNSET))

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
        model = gateway.router.resolve(request.model)
        answer = CompletionFormat(Heading.of("cmpl", model), request.includes_usage, request.logprobs is not None)
        events = gateway.generate_choices(model, request.to_generate_request(), request.num_choices)
        return StreamedAnswer(events, answer) if request.stream else WholeAnswer(events, answer)

    return router
