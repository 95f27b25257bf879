"""How the server is, as far as it is known without asking any worker.

Knows no request and no HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appliance.gateway.router import ServedModel
from appliance.protocol.health import WorkerHealth, WorkerState

STALLED_S = 5.0  # a worker's heart beats every second
_ANSWERING = frozenset({WorkerState.READY, WorkerState.UNLOADED, WorkerState.LOADING})


def server_health(
    models: Sequence[ServedModel], *, is_draining: bool, num_requests: int
) -> dict[str, Any]:
    """`status` is `ok` when a request would be answered, loading its model first where
    need be.

    Otherwise `status` is `draining`, `starting` while the first models are loaded, or what
    is wrong with the first model where something is wrong with each: its state, or
    `stalled` when a worker's heart has not beaten for `STALLED_S` (it may come back, or be
    replaced). `reason` is what is wrong, also with one of several models.
    """
    healths = [(model, model.client.health()) for model in models]
    status, reason = _status(healths, is_draining=is_draining)
    return {
        "status": status,
        "reason": reason,
        "num_requests": num_requests,
        "models": [_describe(model, health) for model, health in healths],
    }


def _status(
    healths: Sequence[tuple[ServedModel, WorkerHealth]], *, is_draining: bool
) -> tuple[str, str | None]:
    if is_draining:
        return "draining", "The server is shutting down."
    if not healths:  # nothing is wrong with the server, which nobody should restart for that
        return "ok", "There is no model here any more: pull or create one."
    faults = [fault for model, health in healths if (fault := _fault(model, health)) is not None]
    reason = " ".join(fault.reason for fault in faults) or None
    starting = WorkerState.STARTING.value
    if any(fault.status == starting for fault in faults):
        return starting, reason
    return (faults[0].status if len(faults) == len(healths) else "ok"), reason


@dataclass(frozen=True)
class _Fault:
    """Why a model would not answer now."""

    status: str
    reason: str


def _fault(model: ServedModel, health: WorkerHealth) -> _Fault | None:
    if health.state not in _ANSWERING:
        state = health.state.value
        return _Fault(
            state,
            f"{model.id} is {state}" + (f": {health.last_error}" if health.last_error else "."),
        )
    if (age_s := health.heartbeat_age_s) is not None and age_s > STALLED_S:
        return _Fault("stalled", f"{model.id}: its worker has not responded for {age_s:.0f} s.")
    return None


def _describe(model: ServedModel, health: WorkerHealth) -> dict[str, Any]:
    described: dict[str, Any] = {
        "id": model.id,
        "state": health.state.value,
        "pid": health.pid,
        "num_restarts": health.num_restarts,
        "last_error": health.last_error,
        "heartbeat_age_s": health.heartbeat_age_s,
    }
    if (info := model.client.info) is not None:
        described |= {"quantization": info.quantization, "ctx": info.ctx, "slots": info.slots}
        described |= {
            "kv_type": info.kv_type,
            "kv_cells": info.kv_cells,
            "speculation": info.speculation,
            "exact_rows": info.exact_rows,
        }
    if (beat := health.heartbeat) is not None:
        described |= {
            "num_running": beat.num_running,
            "num_waiting": beat.num_waiting,
            "num_steps": beat.num_steps,
        }
        described["num_used_cells"] = beat.num_used_cells
        described |= {"step_age_s": beat.step_age_s, "tokenize_age_s": beat.tokenize_age_s}
    return described
