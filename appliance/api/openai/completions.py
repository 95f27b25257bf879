"""POST /v1/completions: its request to a GenerateRequest, and events to its records.

Knows no sampling and no transport.

Source: https://platform.openai.com/docs/api-reference/completions/create
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import UNSET, UnsetType
from pydantic import AliasChoices, Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from appliance.api.errors import Failure
from appliance.api.fields.neutral import NeutralOnly
from appliance.api.fields.parameters import MAX_TOKENS_NAMES, UNLIMITED, GenerationParameters
from appliance.api.fields.request import MAX_INT32, TokenId
from appliance.api.format_router import FormatRouter
from appliance.api.openai.errors import openai_error
from appliance.api.openai.logprobs import MAX_TEXT_LOGPROBS, text_logprobs
from appliance.api.openai.wire import (
    DONE,
    CompletionHeader,
    TextChoice,
    TextCompletion,
    UsageRecord,
    token_ids_of,
    usage_record,
)
from appliance.api.timings import progress_at, timings_at
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.completed_choice import CompletedChoice
from appliance.api.transport.computed_response import WholeResponse
from appliance.api.transport.streamed_response import StreamedResponse
from appliance.api.transport.wire_format import FormattedEvents, StreamItem
from appliance.errors import BadRequest
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.choices import MAX_ANSWERS, MAX_CHOICES
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.queue.deadline import ask_timeout
from appliance.gateway.router import ServedModel
from appliance.protocol.events import Delta, Event, Finished, Started
from appliance.protocol.questions import Detokenize
from appliance.protocol.requests import GenerateRequest, InfillPrompt, TextPrompt, TokenPrompt

DEFAULT_MAX_TOKENS = 16  # OpenAI's

# --- request --------------------------------------------------------------------------


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

CompletionPrompt = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[str], Field(max_length=MAX_ANSWERS, fail_fast=True), Tag("<texts>")]
    | Annotated[_Tokens, Tag("<tokens>")]
    | Annotated[list[_Tokens], Field(max_length=MAX_ANSWERS, fail_fast=True), Tag("<token lists>")],
    Discriminator(
        _prompt_kind,
        custom_error_type="invalid_value",
        custom_error_message="The prompt must be a string, a list of token ids, or a list of these",
    ),
]


class CompletionRequest(GenerationParameters):
    prompt: CompletionPrompt
    # of so many likely tokens; 0 asks for the sampled token's alone
    logprobs: Annotated[int, Field(ge=0, le=MAX_TEXT_LOGPROBS)] | None = None
    # 0: the prompt is all; here absent and unlimited are not the same
    max_tokens: Annotated[
        Annotated[int, Field(ge=UNLIMITED, le=MAX_INT32)] | None,
        Field(validation_alias=AliasChoices(*MAX_TOKENS_NAMES.choices, "max_completion_tokens")),
    ] = None

    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    suffix: str | None = None  # the response belongs between the prompt and it
    echo: bool | None = None

    # What conversations have.
    messages: Annotated[Any, NeutralOnly([])] = None
    tool_choice: Annotated[Any, NeutralOnly("none", "auto")] = None
    tools: Annotated[Any, NeutralOnly([])] = None
    top_logprobs: Annotated[Any, NeutralOnly(0)] = None

    @field_validator("best_of")
    @classmethod
    def _as_many_as_are_returned(cls, value: int | None, info: ValidationInfo) -> int | None:
        num_returned = info.data.get("n") or 1
        if value is not None and value < num_returned:
            raise PydanticCustomError("invalid_value", "It must not be less than 'n'.")
        if value is not None and value > num_returned and info.data.get("stream"):
            raise PydanticCustomError(
                "invalid_value",
                "The best choices are known only at the end: leave out 'stream', or send the same "
                "number as 'n'.",
            )
        return value

    @field_validator("suffix")
    @classmethod
    def _behind_texts_only(cls, value: str | None, info: ValidationInfo) -> str | None:
        prompt = info.data.get("prompt", "")
        first = prompt[0] if isinstance(prompt, list) and prompt else prompt
        if value and not isinstance(first, str):
            raise PydanticCustomError(
                "invalid_value", "It needs a prompt that is text, not token ids."
            )
        return value

    @field_validator("echo")
    @classmethod
    def _what_the_model_reads(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        if value and info.data.get("suffix") and info.data.get("logprobs") is not None:
            raise PydanticCustomError(
                "invalid_value",
                "With 'suffix' the model reads a different text than the one echoed: leave out "
                "'logprobs' or 'suffix'.",
            )
        return value

    @property
    def scores_prompt(self) -> bool:
        """Whether the prompt comes back token by token,
        each with its log-probabilities.
        """
        return bool(self.echo) and self.logprobs is not None

    @property
    def num_candidates(self) -> int:
        """Choices computed for each prompt; the best are returned."""
        return self.best_of or self.num_choices

    @property
    def most_tokens(self) -> int | None:
        if self.max_tokens is None:
            return DEFAULT_MAX_TOKENS
        return None if self.max_tokens == UNLIMITED else self.max_tokens

    @property
    def prompts(self) -> list[TextPrompt | TokenPrompt]:
        if isinstance(self.prompt, str):
            return [TextPrompt(self.prompt)]
        first = self.prompt[0]
        if isinstance(first, int):
            return [TokenPrompt([token for token in self.prompt if isinstance(token, int)])]
        return [_one_prompt(one) for one in self.prompt if not isinstance(one, int)]

    def to_generate_requests(self) -> list[GenerateRequest]:
        """One for each prompt.

        Raises `BadRequest` where all together ask for too many choices.
        """
        prompts = self.prompts
        if len(prompts) * self.num_candidates > MAX_ANSWERS:
            raise BadRequest(
                f"A request may ask for at most {MAX_ANSWERS} choices: {len(prompts)} prompts with "
                f"{self.num_candidates} choices each are too many.",
                param="prompt",
            )
        is_ranked = self.num_candidates > self.num_choices
        grammar = self.one_grammar()
        return [
            GenerateRequest(
                prompt=self._gap(prompt)
                if self.suffix and isinstance(prompt, TextPrompt)
                else prompt,
                sampling=self.sampling(0 if is_ranked and self.logprobs is None else self.logprobs),
                max_tokens=self.most_tokens,
                stop=self.stop or [],
                shifts_context=bool(self.context_shift),
                keeps_prefix=self.cache == "keep",
                uses_cache=self.uses_cache,
                is_exact=self.exact,
                keep_alive_s=self.keep_alive,
                scores_prompt=self.scores_prompt,
                grammar=grammar,
                **self.reports,
                **self.adapters,
            )
            for prompt in prompts
        ]

    def _gap(self, prompt: TextPrompt) -> InfillPrompt:
        return InfillPrompt(prefix=prompt.text, suffix=self.suffix or "", param="suffix")


def _one_prompt(prompt: str | list[int]) -> TextPrompt | TokenPrompt:
    return TextPrompt(prompt) if isinstance(prompt, str) else TokenPrompt(prompt)


# --- response -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CompletionFormat:
    """See `WireFormat`."""

    header: CompletionHeader
    includes_usage: bool = False  # the stream ends with the token counts
    includes_logprobs: bool = False
    num_prompts: int = 1
    num_choices: int = 1  # returned for each prompt: the best, if there are more
    echoed: Sequence[str] = ()  # the prompts, where they go before the choices' text
    scores_prompt: bool = False  # then the prompt comes as the beginning of the choice's text
    includes_timings: bool = False
    includes_token_ids: bool = False
    # of a stream's choices without a chunk: clients time the first one for the first token
    _started: dict[int, Started] = field(default_factory=dict)

    def items(self, index: int, event: Event) -> Sequence[StreamItem]:
        if isinstance(event, Started):
            self.header.told(event.route)
            self._started[index] = event
            return ()
        choice = self._choice_at(index, event)
        if choice is None:
            return ()
        parts: list[tuple[TextChoice, Event]] = [(choice, event)]
        if (started := self._started.pop(index, None)) is not None:
            if echo := self._echo(index):
                parts.insert(0, (TextChoice(index=index, text=echo), started))
            if self.includes_token_ids:
                parts[0][0].prompt_token_ids = started.prompt_token_ids
        return [self._chunk(*part) for part in parts]

    def _choice_at(self, index: int, event: Event) -> TextChoice | None:
        if isinstance(event, Delta):
            logprobs = text_logprobs(event.tokens) if event.tokens else None
            has_any = event.text or logprobs is not None or event.token_ids
            if not has_any and event.progress is None:
                return None
            return TextChoice(index=index, text=event.text, logprobs=logprobs)
        assert isinstance(event, Finished), "a Client raises what failed"
        return TextChoice(index=index, text="", finish_reason=event.reason.value)

    def end(self, finished: Sequence[Finished]) -> Sequence[StreamItem]:
        if self.includes_usage:
            return self._record([], usage_record(finished, self.num_prompts)), DONE
        return (DONE,)

    def failed(self, failure: Failure) -> Sequence[StreamItem]:
        return (openai_error(failure),)

    def whole(self, choices: Sequence[CompletedChoice]) -> TextCompletion:
        self.header.told(choices[0].route)
        size = len(choices) // self.num_prompts
        best = [
            choice
            for at in range(0, len(choices), size)
            for choice in self._best(choices[at : at + size])
        ]
        record = self._record(
            [self._choice(index, choice) for index, choice in enumerate(best)],
            usage_record([choice.finished for choice in choices], self.num_prompts),
        )
        return self._told(record, best[0].finished)

    def _told(self, record: TextCompletion, event: Event) -> TextCompletion:
        """With what was asked for beside the answer."""
        record.prompt_progress = progress_at(event)
        if self.includes_timings:
            record.timings = timings_at(event)
        return record

    def _best(self, candidates: Sequence[CompletedChoice]) -> Sequence[CompletedChoice]:
        """OpenAI's measure: the highest log-probability
        per token; of equals the first.
        """
        if len(candidates) == self.num_choices:
            return candidates
        return sorted(candidates, key=self._mean_logprob, reverse=True)[: self.num_choices]

    def _mean_logprob(self, choice: CompletedChoice) -> float:
        """A choice that ended before its first word is as likely as can be."""
        num_scored = choice.finished.usage.num_prompt_tokens if self.scores_prompt else 0
        logprobs = [token.chosen.logprob or 0.0 for token in (choice.tokens or [])[num_scored:]]
        return sum(logprobs) / len(logprobs) if logprobs else 0.0

    def _echo(self, index: int) -> str:
        return self.echoed[index // self.num_choices] if self.echoed else ""

    def _choice(self, index: int, choice: CompletedChoice) -> TextChoice:
        return TextChoice(
            index=index,
            text=self._echo(index) + choice.text,
            logprobs=text_logprobs(choice.tokens or []) if self.includes_logprobs else None,
            finish_reason=choice.finished.reason.value,
            prompt_token_ids=choice.prompt_token_ids if self.includes_token_ids else UNSET,
            token_ids=choice.token_ids if self.includes_token_ids else UNSET,
        )

    def _chunk(self, choice: TextChoice, event: Event) -> TextCompletion:
        if self.includes_token_ids:
            choice.token_ids = token_ids_of(event)
        record = self._record([choice], None if self.includes_usage else UNSET)
        return self._told(record, event)

    def _record(
        self, choices: list[TextChoice], usage: UsageRecord | UnsetType | None
    ) -> TextCompletion:
        header = self.header
        return TextCompletion(
            id=header.id,
            created=header.created,
            model=header.model,
            system_fingerprint=header.system_fingerprint,
            choices=choices,
            usage=usage,
        )


async def _texts(
    gateway: Gateway,
    caller: Caller,
    model: ServedModel,
    prompts: Sequence[TextPrompt | TokenPrompt],
) -> list[str]:
    return [
        prompt.text
        if isinstance(prompt, TextPrompt)
        else (await gateway.ask(caller, model, Detokenize(prompt.tokens, shows_special=False))).text
        for prompt in prompts
    ]


async def begin_completion(
    gateway: Gateway, caller: Caller, request: CompletionRequest
) -> FormattedEvents:
    """Raises `ApplianceError` where the request cannot be served."""
    model = gateway.models_of(caller).resolve(request.model)
    prompts = request.to_generate_requests()
    completion = CompletionFormat(
        header=CompletionHeader.of("cmpl", model),
        includes_usage=request.includes_usage,
        includes_logprobs=request.logprobs is not None,
        num_prompts=len(prompts),
        num_choices=request.num_choices,
        echoed=await _texts(gateway, caller, model, request.prompts)
        if request.echo and not request.scores_prompt
        else (),
        scores_prompt=request.scores_prompt,
        includes_timings=bool(request.timings_per_token),
        includes_token_ids=bool(request.return_token_ids),
    )
    ask_timeout(request.timeout)
    events = gateway.generate_choices(
        caller, model, prompts, request.num_candidates, is_whole=not request.stream
    )
    return FormattedEvents(events, completion)


def completion_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("openai")

    @router.post(
        "/v1/completions",
        responses=router.returns(TextCompletion, stream=TextCompletion, end_mark=DONE),
    )
    async def create_completion(request: CompletionRequest, caller: RequestCaller) -> Response:
        """Continues a text, or each of several, whole or,
        with `stream`, as server-sent events.
        """
        events, completion = await begin_completion(gateway, caller, request)
        if request.stream:
            return StreamedResponse(events, completion)
        return WholeResponse(events, completion)

    return router
