"""POST /infill, as llama.cpp has it: what belongs between a prefix and a suffix.

Knows no vocabulary and no sampling.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, POST
/infill and POST /completion.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from appliance.api.fields.neutral import NeutralOnly
from appliance.api.fields.request import RequestModel
from appliance.api.format_router import FormatRouter
from appliance.api.llamacpp.completion_records import NativeFormat, NativeRecord
from appliance.api.llamacpp.errors import LLAMA_ERRORS
from appliance.api.llamacpp.parameters import NativeParameters
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.computed_response import WholeResponse
from appliance.api.transport.streamed_response import StreamedResponse
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.queue.deadline import ask_timeout
from appliance.protocol.requests import GenerateRequest, InfillPrompt, SourceFile

MAX_FILES = 1024

# --- request --------------------------------------------------------------------------


class ExtraFile(RequestModel):
    filename: str = "tmp"  # llama.cpp's defaults
    text: str = ""
    time: Any = None  # when an editor noticed it, on its own clock; changes nothing


class InfillRequest(NativeParameters):
    input_prefix: str
    input_suffix: str
    input_extra: Annotated[list[ExtraFile], Field(max_length=MAX_FILES, fail_fast=True)] | None = (
        None
    )
    prompt: str | None = None  # the beginning of the text to be filled in
    spm_infill: bool | None = None  # llama-server's option --spm-infill: the suffix comes first

    n: Annotated[Any, NeutralOnly(1)] = None

    def to_generate_request(self) -> GenerateRequest:
        return self.generate_request(
            InfillPrompt(
                prefix=self.input_prefix,
                suffix=self.input_suffix,
                prefill=self.prompt or "",
                files=[SourceFile(file.filename, file.text) for file in self.input_extra or ()],
                is_suffix_first=bool(self.spm_infill),
                param="input_suffix",
            )
        )


def infill_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("llama.cpp", error_shape=LLAMA_ERRORS)
    described = router.returns(NativeRecord, stream=NativeRecord, may_be_partial=True)

    @router.post("/infill", responses=described)
    async def infill(request: InfillRequest, caller: RequestCaller) -> Response:
        """Fills in what belongs between `input_prefix` and `input_suffix`, whole or,
        with `stream`, as server-sent events.
        """
        model = gateway.models_of(caller).resolve(request.model)
        wire_format = NativeFormat(
            model=model.id,
            settings=request.settings(),
            id_slot=request.slot,
            fields=request.response_fields,
            includes_tokens=request.includes_tokens,
            includes_probabilities=request.includes_probabilities,
            includes_timings=bool(request.timings_per_token),
        )
        ask_timeout(request.timeout)
        events = gateway.generate_choices(
            caller, model, [request.to_generate_request()], is_whole=not request.stream
        )
        if request.stream:
            return StreamedResponse(events, wire_format)
        return WholeResponse(events, wire_format)

    return router
