"""GET /ps: the processes behind the models, what they take and what they do. Knows no process.

Ours, not OpenAI's: `appliance ps` prints it.
"""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from appliance.api.description import answers
from appliance.api.errors import RESPONSES
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.model_status import ModelStatus, Process, processes


class ProcessesRecord(msgspec.Struct, kw_only=True):
    budget_bytes: int | None
    left_bytes: int | None
    server: Process
    models: tuple[ModelStatus, ...]
    workers: dict[str, Process]


def process_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["processes"], responses=RESPONSES)

    @router.get("/ps", response_class=Response, responses=answers(ProcessesRecord))
    async def ps() -> Response:
        """Sizes in bytes, times in seconds; the budget is what all processes together may take."""
        found = await processes(gateway.router.models)
        memory = gateway.metrics.memory
        record = ProcessesRecord(
            budget_bytes=None if memory is None else memory.budget_bytes,
            left_bytes=None if memory is None else memory.left_bytes,
            server=found.server,
            models=found.models,
            workers=found.workers,
        )
        return Response(msgspec.json.encode(record), media_type="application/json")

    return router
