"""How Ollama's answers go out: as lines, whole, or at once where a model is only loaded.

Knows no endpoint's records.
"""

from __future__ import annotations

from starlette.responses import Response

from appliance.api.ollama.request import GeneratingRequest
from appliance.api.ollama.wire import AnswerRecord
from appliance.api.transport.completed_choice import ChoiceEvents
from appliance.api.transport.computed_response import ComputedResponse, WholeResponse
from appliance.api.transport.ndjson import JSON_LINES
from appliance.api.transport.streamed_response import StreamedResponse
from appliance.api.transport.wire_format import WireFormat, WireRecord
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import ServedModel


def answer(events: ChoiceEvents, wire_format: WireFormat, *, is_streamed: bool) -> Response:
    if is_streamed:
        return StreamedResponse(events, wire_format, JSON_LINES)
    return WholeResponse(events, wire_format)


def loaded(
    gateway: Gateway, model: ServedModel, request: GeneratingRequest, record: AnswerRecord
) -> Response:
    """For a request that asks for no answer: its model is loaded, or unloaded."""

    async def compute() -> WireRecord:
        await gateway.stay(model, request.keep_alive)
        record.done, record.done_reason = True, "unload" if request.unloads else "load"
        return record

    return ComputedResponse(compute)
