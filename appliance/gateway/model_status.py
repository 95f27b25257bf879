"""The status of each served model, and the memory of each process, for whoever asks.

Knows no wire format and changes nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.gateway.managed_model import LoadState
from appliance.gateway.router import ServedModel
from appliance.protocol.health import WorkerState
from appliance.worker.memory_use import ExactMemory, exact_memory


@dataclass(frozen=True, kw_only=True)
class ModelStatus:
    """A model now.

    What is None is not known, or does not apply to a model that is not loaded.
    """

    id: str
    aliases: tuple[str, ...]
    state: str
    is_loaded: bool
    is_reduced: bool = False  # loaded smaller than it should be
    last_error: str | None = None
    progress: str | None = None  # of its load, in words
    quantization: str | None = None
    ctx: int | None = None
    train_ctx: int | None = None  # tokens; what the model was trained for
    tool_use: str | None = None  # how functions are shown to it: native, generic or none
    slots: int | None = None
    kv_type: str | None = None
    kv_cells: int | None = None
    speculation: str | None = None
    exact_rows: bool | None = None
    pooling: str | None = None  # of an embedding model, like the next
    num_embedding_values: int | None = None
    choice: str | None = None  # of its plan, in words
    reason: str | None = None  # why that was chosen
    predicted_bytes: int | None = None
    predicted_parts: Mapping[str, int] | None = None  # what these are made of
    pid: int | None = None
    num_restarts: int = 0
    num_requests: int | None = None  # being answered: running or queued
    num_waiting: int = 0  # for the model to be loaded
    num_running: int | None = None  # computing now
    num_queued: int | None = None  # waiting for a slot
    tokens_per_s: float | None = None
    idle_s: float | None = None  # since it was last used
    unload_in_s: float | None = None  # None: never, or not while it is used


@dataclass(frozen=True)
class Process:
    """A process and its memory; None where it is gone."""

    pid: int
    memory: ExactMemory | None


@dataclass(frozen=True)
class Processes:
    """The server, the models, and the process of each model that has one, by its id."""

    server: Process
    models: tuple[ModelStatus, ...]
    workers: dict[str, Process]


def model_status(model: ServedModel) -> ModelStatus:
    health, info = model.client.health(), model.client.info
    report = None if model.load_report is None else model.load_report()
    plan = None if report is None else report.plan
    beat = health.heartbeat
    return ModelStatus(
        id=model.id,
        aliases=model.aliases,
        state=health.state.value if report is None else report.state.value,
        is_loaded=health.state is WorkerState.READY
        if report is None
        else report.state is LoadState.LOADED,
        is_reduced=report is not None and report.is_reduced,
        last_error=health.last_error,
        progress=None if report is None else report.progress,
        quantization=None if info is None else info.quantization,
        ctx=None if info is None else info.ctx,
        train_ctx=None if info is None else info.train_ctx,
        tool_use=None if info is None else info.tool_use,
        slots=None if info is None else info.slots,
        kv_type=None if info is None else info.kv_type,
        kv_cells=None if info is None else info.kv_cells,
        speculation=None if info is None else info.speculation,
        exact_rows=None if info is None else info.exact_rows,
        pooling=None if info is None or not info.pooling else info.pooling,
        num_embedding_values=None
        if info is None or not info.pooling
        else info.num_embedding_values,
        choice=None if plan is None else plan.choice,
        reason=None if plan is None else plan.reason,
        predicted_bytes=None if report is None else report.predicted_bytes,
        predicted_parts=None if plan is None else plan.parts,
        pid=health.pid,
        num_restarts=health.num_restarts,
        num_requests=None if report is None else report.num_users,
        num_waiting=0 if report is None else report.num_waiting,
        num_running=None if beat is None else beat.num_running,
        num_queued=None if beat is None else beat.num_waiting,
        tokens_per_s=health.tokens_per_s,
        idle_s=None if report is None else report.idle_s,
        unload_in_s=None if report is None else report.unload_in_s,
    )


async def processes(models: Sequence[ServedModel]) -> Processes:
    """Reads every process's memory in a thread, for it takes milliseconds each."""
    statuses = tuple(model_status(model) for model in models)
    pids = {status.id: status.pid for status in statuses if status.pid is not None}
    found = await asyncio.to_thread(
        lambda: {pid: exact_memory(pid) for pid in (os.getpid(), *pids.values())}
    )
    workers = {model_id: Process(pid, found[pid]) for model_id, pid in pids.items()}
    return Processes(Process(os.getpid(), found[os.getpid()]), statuses, workers)
