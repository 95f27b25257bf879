"""POST /completion, as llama.cpp has it: its request to GenerateRequests.

Knows no vocabulary and no sampling.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, POST
/completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag
from starlette.responses import Response

from appliance.api.fields.neutral import NeutralOnly
from appliance.api.fields.request import RequestModel, TokenId
from appliance.api.format_router import FormatRouter
from appliance.api.llamacpp.completion_records import NativeFormat, NativeRecord
from appliance.api.llamacpp.errors import LLAMA_ERRORS
from appliance.api.llamacpp.parameters import NativeParameters
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.computed_response import WholeResponse
from appliance.api.transport.streamed_response import StreamedResponse
from appliance.errors import BadRequest
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.choices import MAX_ANSWERS
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.queue.deadline import ask_timeout
from appliance.gateway.router import ServedModel
from appliance.protocol.questions import Detokenize
from appliance.protocol.requests import GenerateRequest, MixedPrompt

_WHAT_A_PROMPT_IS = (
    "The prompt must be a string, a list of token ids and strings, an object with "
    "'prompt_string', or a list of these"
)
_MAX_PARTS = 65536  # texts and tokens of one prompt

# --- request --------------------------------------------------------------------------


class ObjectPrompt(RequestModel):
    prompt_string: str
    multimodal_data: Annotated[Any, NeutralOnly([])] = None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _part_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<token>" if _is_int(value) else None


def _one_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "<text>"
    if isinstance(value, dict):
        return "<object>"
    return "<parts>" if isinstance(value, list) else None


def _kind(value: object) -> str | None:
    """A list with a number in it is one prompt, as in llama.cpp."""
    if isinstance(value, list) and not any(map(_is_int, value)):
        return "<prompts>"
    return _one_kind(value)


_Part = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[TokenId, Tag("<token>")],
    Discriminator(
        _part_kind,
        custom_error_type="invalid_value",
        custom_error_message="It must be a token id or a string",
    ),
]
_Parts = Annotated[list[_Part], Field(min_length=1, max_length=_MAX_PARTS, fail_fast=True)]
_OnePrompt = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[ObjectPrompt, Tag("<object>")]
    | Annotated[_Parts, Tag("<parts>")],
    Discriminator(
        _one_kind, custom_error_type="invalid_value", custom_error_message=_WHAT_A_PROMPT_IS
    ),
]
NativePrompt = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[ObjectPrompt, Tag("<object>")]
    | Annotated[_Parts, Tag("<parts>")]
    | Annotated[
        list[_OnePrompt],
        Field(min_length=1, max_length=MAX_ANSWERS, fail_fast=True),
        Tag("<prompts>"),
    ],
    Discriminator(_kind, custom_error_type="invalid_value", custom_error_message=_WHAT_A_PROMPT_IS),
]


class NativeCompletionRequest(NativeParameters):
    prompt: NativePrompt

    # What conversations have.
    messages: Annotated[Any, NeutralOnly([])] = None
    tools: Annotated[Any, NeutralOnly([])] = None

    @property
    def prompts(self) -> list[MixedPrompt]:
        prompt = self.prompt
        if isinstance(prompt, list) and not any(map(_is_int, prompt)):
            return [_mixed(one) for one in prompt]
        return [_mixed(prompt)]

    def to_generate_requests(self) -> list[GenerateRequest]:
        """One for each prompt.

        Raises `BadRequest` where all together ask for too many choices.
        """
        prompts = self.prompts
        if len(prompts) * self.num_choices > MAX_ANSWERS:
            raise BadRequest(
                f"A request may ask for at most {MAX_ANSWERS} choices: {len(prompts)} prompts with "
                f"{self.num_choices} choices each are too many.",
                param="prompt",
            )
        return [self.generate_request(prompt) for prompt in prompts]

    @property
    def includes_prompt(self) -> bool:
        return not self.response_fields or "prompt" in self.response_fields


def _mixed(prompt: object) -> MixedPrompt:
    """Tokens side by side become one part."""
    if isinstance(prompt, str):
        return MixedPrompt([prompt])
    if isinstance(prompt, ObjectPrompt):
        return MixedPrompt([prompt.prompt_string])
    assert isinstance(prompt, list), "what pydantic let through"
    parts: list[str | list[int]] = []
    for part in prompt:
        if isinstance(part, str):
            parts.append(part)
        elif parts and isinstance(parts[-1], list):
            parts[-1].append(part)
        else:
            parts.append([part])
    return MixedPrompt(parts)


# --- response -------------------------------------------------------------------------


async def _texts(
    gateway: Gateway, caller: Caller, model: ServedModel, prompts: Sequence[MixedPrompt]
) -> list[str]:
    """As they read: tokens by their text."""

    async def text(part: str | list[int]) -> str:
        if isinstance(part, str):
            return part
        return (await gateway.ask(caller, model, Detokenize(part))).text

    return ["".join([await text(part) for part in prompt.parts]) for prompt in prompts]


def native_completion_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("llama.cpp", error_shape=LLAMA_ERRORS)
    described = router.returns(
        NativeRecord | list[NativeRecord], stream=NativeRecord, may_be_partial=True
    )

    @router.post("/completion", responses=described)
    async def completion(request: NativeCompletionRequest, caller: RequestCaller) -> Response:
        """Continues a text, or each of several, whole or, with `stream`, as server-sent
        events. Special tokens written in it are such.
        """
        model = gateway.models_of(caller).resolve(request.model)
        prompts = request.to_generate_requests()
        wire_format = NativeFormat(
            model=model.id,
            settings=request.settings(),
            id_slot=request.slot,
            fields=request.response_fields,
            prompts=await _texts(gateway, caller, model, request.prompts)
            if request.includes_prompt
            else (),
            num_choices=request.num_choices,
            includes_tokens=request.includes_tokens,
            includes_probabilities=request.includes_probabilities,
            includes_timings=bool(request.timings_per_token),
        )
        ask_timeout(request.timeout)
        events = gateway.generate_choices(
            caller, model, prompts, request.num_choices, is_whole=not request.stream
        )
        if request.stream:
            return StreamedResponse(events, wire_format)
        return WholeResponse(events, wire_format)

    return router
