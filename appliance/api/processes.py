"""GET /ps: the processes behind the models, what they take and what they do.

Knows no process.

Ours, not OpenAI's: `appliance ps` prints it.
"""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.model_status import ModelStatus, Process, processes
from appliance.gateway.thermal.heat import Heat, heat


class ProcessesRecord(msgspec.Struct, kw_only=True):
    budget_bytes: int | None
    left_bytes: int | None
    heat: Heat | None
    server: Process
    models: tuple[ModelStatus, ...]
    workers: dict[str, Process]


def process_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("processes")

    @router.get("/ps", response_class=Response, responses=router.returns(ProcessesRecord))
    async def ps(caller: RequestCaller) -> Response:
        """The server's processes, and the models that the caller may use. Sizes are in
        bytes, times in seconds.

        `budget_bytes` is the memory that all processes may take together; `heat` is null where
        the kernel tells nothing of it; its `share` is the part of the machine's power that
        its `governor` lets models use.
        """
        found = await processes(gateway.models_of(caller).distinct)
        memory = gateway.metrics.memory
        record = ProcessesRecord(
            budget_bytes=None if memory is None else memory.budget_bytes,
            left_bytes=None if memory is None else memory.left_bytes,
            heat=await heat(gateway.metrics.heat),
            server=found.server,
            models=found.models,
            workers=found.workers,
        )
        return RecordResponse(record)

    return router
