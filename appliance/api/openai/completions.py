"""POST /v1/completions: its request to a GenerateRequest, and events to its answers.

Knows no sampling and no HTTP.

Source: https://platform.openai.com/docs/api-reference/completions/create
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from msgspec import UNSET, UnsetType
from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from appliance.api.description import answers
from appliance.api.errors import RESPONSES, ErrorBody
from appliance.api.fields.parameters import GenerationParameters
from appliance.api.fields.request import MAX_INT32, TokenId
from appliance.api.openai.logprobs import MAX_TEXT_LOGPROBS, text_logprobs
from appliance.api.openai.wire import Heading, TextChoice, TextCompletion, Usage, encode, usage_of
from appliance.api.transport import sse
from appliance.api.transport.answer import StreamedAnswer, WholeAnswer, WholeChoice
from appliance.api.transport.body import StrictJsonRoute
from appliance.errors import BadRequest
from appliance.gateway.choices import MAX_ANSWERS, MAX_CHOICES
from appliance.gateway.lifecycle import Gateway
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

Prompt = Annotated[
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
    prompt: Prompt
    # 0 asks for the sampled token's alone
    logprobs: Annotated[int, Field(ge=0, le=MAX_TEXT_LOGPROBS)] | None = None
    max_tokens: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None  # 0: the prompt is all

    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    suffix: str | None = None  # the answer belongs between the prompt and it
    echo: bool | None = None

    @field_validator("best_of")
    @classmethod
    def _as_many_as_are_returned(cls, value: int | None, info: ValidationInfo) -> int | None:
        num_returned = info.data.get("n") or 1
        if value is not None and value < num_returned:
            raise PydanticCustomError("invalid_value", "It must not be less than 'n'.")
        if value is not None and value > num_returned and info.data.get("stream"):
            raise PydanticCustomError(
                "invalid_value", "The best are known at the end only: do not send 'stream' with it."
            )
        return value

    @field_validator("suffix")
    @classmethod
    def _behind_texts_only(cls, value: str | None, info: ValidationInfo) -> str | None:
        prompt = info.data.get("prompt", "")
        first = prompt[0] if isinstance(prompt, list) and prompt else prompt
        if value and not isinstance(first, str):
            raise PydanticCustomError(
                "invalid_value", "It goes with a text: send the prompt as one, not as token ids."
            )
        return value

    @field_validator("echo")
    @classmethod
    def _what_the_model_reads(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        if value and info.data.get("suffix") and info.data.get("logprobs") is not None:
            raise PydanticCustomError(
                "invalid_value",
                "With 'suffix' the model reads another text than is echoed: leave out 'logprobs'.",
            )
        return value

    @property
    def scores_prompt(self) -> bool:
        """Whether the prompt comes back token by token, each with its log-probabilities."""
        return bool(self.echo) and self.logprobs is not None

    @property
    def num_candidates(self) -> int:
        """Answers to each prompt, of which the best are returned."""
        return self.best_of or self.num_choices

    @property
    def prompts(self) -> list[TextPrompt | TokenPrompt]:
        if isinstance(self.prompt, str):
            return [TextPrompt(self.prompt)]
        first = self.prompt[0]
        if isinstance(first, int):
            return [TokenPrompt([token for token in self.prompt if isinstance(token, int)])]
        return [_one_prompt(one) for one in self.prompt if not isinstance(one, int)]

    def to_generate_requests(self) -> list[GenerateRequest]:
        """One for each prompt. Raises `BadRequest` where all together ask for too many answers."""
        prompts = self.prompts
        if len(prompts) * self.num_candidates > MAX_ANSWERS:
            raise BadRequest(
                f"{len(prompts)} prompts with {self.num_candidates} answers each are more than "
                f"{MAX_ANSWERS} answers, which is the most that one request may ask for.",
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
                max_tokens=DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens,
                stop=self.stop or [],
                shifts_context=bool(self.context_shift),
                keeps_prefix=self.cache == "keep",
                uses_cache=self.uses_cache,
                keep_alive_s=self.keep_alive,
                scores_prompt=self.scores_prompt,
                grammar=grammar,
            )
            for prompt in prompts
        ]

    def _gap(self, prompt: TextPrompt) -> InfillPrompt:
        return InfillPrompt(prefix=prompt.text, suffix=self.suffix or "", param="suffix")


def _one_prompt(prompt: str | list[int]) -> TextPrompt | TokenPrompt:
    return TextPrompt(prompt) if isinstance(prompt, str) else TokenPrompt(prompt)


# --- answer ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CompletionFormat:
    """A request's answers as bytes; see `AnswerFormat`.

    With `includes_usage` the stream ends with the token counts.

    `num_choices` answers are returned to each of `num_prompts`, the best if there are
    more; `echoed` are the prompts, where they go before the answers. A prompt that is
    scored comes as the answer's beginning.
    """

    heading: Heading
    includes_usage: bool = False
    includes_logprobs: bool = False
    num_prompts: int = 1
    num_choices: int = 1
    echoed: Sequence[str] = ()
    scores_prompt: bool = False

    def chunk(self, index: int, event: Event) -> bytes:
        if isinstance(event, Delta):
            logprobs = text_logprobs(event.tokens) if event.tokens else None
            if not event.text and logprobs is None:
                return b""
            return self._frame(TextChoice(index=index, text=event.text, logprobs=logprobs))
        if isinstance(event, Started):
            echo = self._echo(index)
            return self._frame(TextChoice(index=index, text=echo)) if echo else b""
        assert isinstance(event, Finished), "a Client raises what failed"
        return self._frame(TextChoice(index=index, text="", finish_reason=event.reason.value))

    def end(self, finished: Sequence[Finished]) -> bytes:
        usage = usage_of(finished, self.num_prompts)
        return (sse.frame(self._record([], usage)) if self.includes_usage else b"") + sse.DONE

    def broken(self, body: ErrorBody) -> bytes:
        return sse.frame(body)

    def whole(self, choices: Sequence[WholeChoice]) -> bytes:
        size = len(choices) // self.num_prompts
        best = [
            choice
            for at in range(0, len(choices), size)
            for choice in self._best(choices[at : at + size])
        ]
        answers = [self._choice(index, choice) for index, choice in enumerate(best)]
        return encode(
            self._record(
                answers, usage_of([choice.finished for choice in choices], self.num_prompts)
            )
        )

    def _best(self, candidates: Sequence[WholeChoice]) -> Sequence[WholeChoice]:
        """OpenAI's measure: the highest log-probability per token; of equals the first."""
        if len(candidates) == self.num_choices:
            return candidates
        return sorted(candidates, key=self._mean_logprob, reverse=True)[: self.num_choices]

    def _mean_logprob(self, choice: WholeChoice) -> float:
        """An answer that ended before its first word is as likely as can be."""
        num_scored = choice.finished.usage.num_prompt_tokens if self.scores_prompt else 0
        logprobs = [token.chosen.logprob or 0.0 for token in (choice.tokens or [])[num_scored:]]
        return sum(logprobs) / len(logprobs) if logprobs else 0.0

    def _echo(self, index: int) -> str:
        return self.echoed[index // self.num_choices] if self.echoed else ""

    def _choice(self, index: int, choice: WholeChoice) -> TextChoice:
        return TextChoice(
            index=index,
            text=self._echo(index) + choice.text,
            logprobs=text_logprobs(choice.tokens or []) if self.includes_logprobs else None,
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


async def _texts(
    gateway: Gateway, model: ServedModel, prompts: Sequence[TextPrompt | TokenPrompt]
) -> list[str]:
    return [
        prompt.text
        if isinstance(prompt, TextPrompt)
        else (await gateway.ask(model, Detokenize(prompt.tokens))).text
        for prompt in prompts
    ]


def completion_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["openai"], route_class=StrictJsonRoute)

    @router.post(
        "/v1/completions",
        responses=RESPONSES | answers(TextCompletion, TextCompletion, ends_with_done=True),
    )
    async def create_completion(request: CompletionRequest) -> Response:
        """Continues a text, or each of several, whole or, with `stream`, as server-sent events."""
        model = gateway.router.resolve(request.model)
        prompts = request.to_generate_requests()
        answer = CompletionFormat(
            heading=Heading.of("cmpl", model),
            includes_usage=request.includes_usage,
            includes_logprobs=request.logprobs is not None,
            num_prompts=len(prompts),
            num_choices=request.num_choices,
            echoed=await _texts(gateway, model, request.prompts)
            if request.echo and not request.scores_prompt
            else (),
            scores_prompt=request.scores_prompt,
        )
        events = gateway.generate_choices(model, prompts, request.num_candidates)
        return StreamedAnswer(events, answer) if request.stream else WholeAnswer(events, answer)

    return router
