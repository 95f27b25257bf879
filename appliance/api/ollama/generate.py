"""POST /api/generate: its request to a GenerateRequest, events to its records.

Knows no sampling and no transport.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import UNSET
from pydantic import Field
from starlette.responses import Response

from appliance.api.errors import Failure
from appliance.api.fields.chat_messages import InputMessage, chat_prompt
from appliance.api.fields.neutral import Hint, NeutralOnly
from appliance.api.fields.request import MAX_INT32
from appliance.api.format_router import FormatRouter
from appliance.api.ollama.answers import answer, loaded
from appliance.api.ollama.context import Turns, packed, unpacked
from appliance.api.ollama.errors import OLLAMA_ERRORS, ollama_error
from appliance.api.ollama.names import resolve
from appliance.api.ollama.request import GeneratingRequest
from appliance.api.ollama.times import Stopwatch
from appliance.api.ollama.wire import GenerateRecord, logprob_records
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.completed_choice import CompletedChoice
from appliance.api.transport.ndjson import JSON_LINES
from appliance.api.transport.wire_format import StreamItem
from appliance.errors import BadRequest
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import ServedModel
from appliance.protocol.events import Delta, Event, Finished, Route, Started
from appliance.protocol.questions import Tokenize
from appliance.protocol.requests import (
    ChatPrompt,
    GenerateRequest,
    InfillPrompt,
    TextPrompt,
    TokenPrompt,
)

Prompt = ChatPrompt | TextPrompt | TokenPrompt | InfillPrompt

# --- request --------------------------------------------------------------------------


class OllamaGenerateRequest(GeneratingRequest):
    prompt: str = ""
    suffix: str | None = None
    system: str | None = None
    raw: bool | None = None  # without the chat template; special tokens in it are such
    context: (
        Annotated[list[Annotated[int, Field(ge=0, le=MAX_INT32)]], Field(fail_fast=True)] | None
    ) = None
    template: Annotated[Any, NeutralOnly("")] = None
    images: Annotated[Any, NeutralOnly([])] = None
    width: Hint = None  # of an image, where a model makes one
    height: Hint = None
    steps: Hint = None

    def check(self) -> None:
        """Raises `BadRequest` where fields contradict each other."""
        given = {"system": self.system, "context": self.context, "suffix": self.suffix}
        other = next((name for name, value in given.items() if value), None)
        if self.raw and other is not None:
            raise BadRequest(
                f"'raw' takes the prompt as it is, so '{other}' has no place in it: leave out one "
                "of them.",
                param=other,
            )
        if self.suffix and self.context:
            raise BadRequest("A gap is filled in without 'context': leave it out.", param="context")

    def turns(self, model: ServedModel) -> Turns:
        """The conversation up to the prompt, which it ends with."""
        before = unpacked(self.context or [])
        has_system = any(role == "system" for role, _ in before)
        system = model.defaults.system if self.system is None else self.system
        if system and not has_system:
            before.insert(0, ("system", system))
        return [*before, ("user", self.prompt)]

    def to_generate_request(self, prompt: Prompt, model: ServedModel) -> GenerateRequest:
        options = self.options_for(model)
        return GenerateRequest(
            prompt=prompt,
            sampling=options.sampling(self.num_top_logprobs),
            max_tokens=options.num_predict,
            stop=options.stop or [],
            shifts_context=bool(self.shift),
            keep_alive_s=self.keep_alive,
            grammar=self.grammar(),
            includes_times=True,
        )


def _chat(turns: Turns, effort: str | None) -> ChatPrompt:
    said = ({"role": role, "content": text} for role, text in turns)
    return chat_prompt([*map(InputMessage.model_validate, said)], None, (), effort)


# --- response -------------------------------------------------------------------------


@dataclass
class GenerateFormat:
    """See `WireFormat`. `turns`, where there are some, are what `context` goes on from."""

    model: str  # as it was asked for; of `auto` the one that answers, once that is known
    stopwatch: Stopwatch
    has_top_logprobs: bool = False
    turns: Turns | None = None
    _texts: list[str] = field(default_factory=list)

    def items(self, index: int, event: Event) -> Sequence[StreamItem]:  # noqa: ARG002  # one choice
        self._told(event.route if isinstance(event, Started) else None)
        if isinstance(event, Delta) and (event.text or event.reasoning or event.tokens):
            self._texts.append(event.text)
            record = self._record(event.text, event.reasoning)
            record.logprobs = logprob_records(event.tokens, has_top=self.has_top_logprobs)
            return (record,)
        if isinstance(event, Finished):
            last = self._record("", "")
            last.context = self._context("".join(self._texts))
            last.finish(event, self.stopwatch)
            return (last,)
        return ()

    def end(self, finished: Sequence[Finished]) -> Sequence[StreamItem]:  # noqa: ARG002  # the Protocol's
        return ()

    def failed(self, failure: Failure) -> Sequence[StreamItem]:
        return (ollama_error(failure),)

    def whole(self, choices: Sequence[CompletedChoice]) -> GenerateRecord:
        [choice] = choices
        self._told(choice.route)
        record = self._record(choice.text, choice.reasoning)
        record.logprobs = logprob_records(choice.tokens, has_top=self.has_top_logprobs)
        record.context = self._context(choice.text)
        record.finish(choice.finished, self.stopwatch)
        return record

    def _told(self, route: Route | None) -> None:
        """Of the model `auto`, which one answers."""
        if route is not None:
            self.model = route.model

    def nothing(self) -> GenerateRecord:
        """Of a request that asks for no answer."""
        return self._record("", "")

    def _context(self, text: str) -> list[int] | Any:
        return UNSET if self.turns is None else packed([*self.turns, ("assistant", text)])

    def _record(self, text: str, reasoning: str) -> GenerateRecord:
        return GenerateRecord(
            model=self.model,
            created_at=self.stopwatch.now(),
            response=text,
            thinking=reasoning or UNSET,
        )


def generate_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("ollama", error_shape=OLLAMA_ERRORS)
    described = router.returns(GenerateRecord, stream=GenerateRecord, framing=JSON_LINES)

    @router.post("/api/generate", responses=described)
    async def generate(request: OllamaGenerateRequest, caller: RequestCaller) -> Response:
        """Responds to a prompt, as lines of JSON or, with `stream` false, whole. Without a
        prompt the model is loaded, or with `keep_alive` 0 unloaded.
        """
        stopwatch = Stopwatch()
        model = resolve(gateway.models_of(caller), request.model)
        wire_format = GenerateFormat(
            request.model or model.id, stopwatch, has_top_logprobs=bool(request.top_logprobs)
        )
        if not request.prompt and not request.suffix:
            return loaded(gateway, model, request, wire_format.nothing())
        request.check()
        prompt: Prompt
        if request.raw:
            question = Tokenize(TextPrompt(request.prompt), parses_special=True)
            prompt = TokenPrompt((await gateway.ask(caller, model, question)).tokens)
        elif request.suffix:
            prompt = InfillPrompt(prefix=request.prompt, suffix=request.suffix, param="suffix")
        elif await _has_no_template(gateway, model):
            prompt = TextPrompt(request.prompt)
        else:
            wire_format.turns = request.turns(model)
            prompt = _chat(wire_format.turns, request.effort)
        events = gateway.generate_choices(
            caller,
            model,
            [request.to_generate_request(prompt, model)],
            is_whole=not request.is_streamed,
        )
        return answer(stopwatch.watched(events), wire_format, is_streamed=request.is_streamed)

    return router


async def _has_no_template(gateway: Gateway, model: ServedModel) -> bool:
    """Ollama then takes the prompt as it is. A model that nobody knows has one."""
    info = model.client.info
    if info is not None:
        return not info.has_chat_template
    facts = await gateway.library.facts(model.itself.id)
    return bool(facts.architecture) and not facts.chat_template
