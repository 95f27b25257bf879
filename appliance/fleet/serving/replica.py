"""One replica: a model that is planned for the machine on which this runs, and served by its
worker.

Knows nothing of Ray but that it makes, asks and ends replicas by these methods.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.errors import ApplianceError, BadRequest, BadSettings, WorkerLost
from appliance.fit.plan.budget import Budget
from appliance.fleet.measured import MeasuredNode, find_node
from appliance.fleet.serving.at_doors import AtDoors
from appliance.fleet.serving.beats import gathered
from appliance.fleet.serving.prompts import prompt_prints
from appliance.fleet.serving.recent_prompts import RecentPrompts
from appliance.fleet.serving.settings import node_settings
from appliance.fleet.serving.wire import (
    BEAT,
    BEAT_S,
    AtDoor,
    Events,
    Refused,
    ReplicaState,
    Sent,
    decode_request,
    encode,
)
from appliance.fleet.simulation import routed_node
from appliance.gateway.health import STALLED_S
from appliance.gateway.pressure_watch import PressureWatch
from appliance.gateway.router import Router, ServedModel
from appliance.gateway.telemetry.metrics import Metrics
from appliance.launch.loader import ModelLoader, PlannedModel
from appliance.launch.names import NamedModel, named_models
from appliance.launch.quarantine import Quarantine
from appliance.launch.start_plan import plan_start
from appliance.protocol.events import Message, Started
from appliance.protocol.health import WorkerState
from appliance.settings import ServeSettings
from appliance.store.event import StoreEvent
from appliance.worker.client import Client
from appliance.worker.frames import AskQuestion, Embed, Submit
from appliance.worker.supervisor import Supervisor

_log = logging.getLogger(__name__)
_STREAM_S = 0.04  # between two pieces of a stream, which nobody sees
_MEASURED_EVERY = 30  # states, between two looks at what was measured


@dataclass(frozen=True, kw_only=True)
class ReplicaConfig:
    """Which model, and what is set for it."""

    model_id: str
    table: Mapping[str, Any]  # of the fleet's file, less what is the fleet's own
    folder: str  # where that file is, from which its paths go


class Replica:
    """Of one model on one machine."""

    async def __init__(self, config: ReplicaConfig) -> None:  # type: ignore[misc] # Ray awaits it
        """Returns when it answers. Raises `ApplianceError` where it cannot."""
        self._model_id = config.model_id
        self._node = socket.gethostname()
        settings = node_settings(config.table, Path(config.folder))
        self._state_dir = settings.state_dir
        planned, budget = await _planned(settings, config.model_id)
        self._plan = planned
        self._worker = planned.make_worker()
        self._measured: MeasuredNode | None = None
        self._num_states = 0
        self._prompts = RecentPrompts()
        self._at_doors = AtDoors()
        await self._worker.start()
        router = Router([ServedModel(id=config.model_id, client=self._worker, created=0)])
        watch = PressureWatch(
            router,
            budget,
            Metrics(),
            predicted_bytes=lambda _: planned.anonymous_bytes,
        )
        self._watching = asyncio.create_task(watch.run(), name="memory pressure")

    # --- requests ---------------------------------------------------------------------

    async def answer(
        self, _key: str, payload: bytes, at_door: AtDoor
    ) -> AsyncGenerator[bytes, None]:
        """What `ReplicaCalls.answer` promises, whatever comes of it."""
        try:
            sent, interval_s = decode_request(payload), 0.0
            if isinstance(sent, Submit):
                self._prompts.add(prompt_prints(sent.request.prompt))
                interval_s = BEAT_S if sent.request.is_whole else _STREAM_S
            messages = _messages(self._worker, sent)
            with self._at_doors.computing(at_door, sent) as computed:
                async with aclosing(gathered(messages, interval_s, _is_urgent)) as pieces:
                    async for piece in pieces:
                        if not all(map(_is_urgent, piece)):
                            computed.began()
                        yield encode(Events(piece)) if piece else BEAT
        except ApplianceError as error:
            yield encode(Refused(error.record()))
        except ValueError as error:
            yield encode(Refused(BadRequest(f"The replica could not read it: {error}.").record()))

    # --- what Ray asks ----------------------------------------------------------------

    async def check_health(self) -> None:
        """Raises `WorkerLost` where this replica had better be replaced: a worker that is
        started again is not one.
        """
        health = self._worker.health()
        if health.state in (WorkerState.FAILED, WorkerState.STOPPED):
            raise WorkerLost(f"{self._model_id} is {health.state.value}: {health.last_error}.")

    def record_routing_stats(self) -> dict[str, Any]:
        """What doors route by, as bytes."""
        return {"state": encode(self._state())}

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Tokens of prompts that wait here, and those that doors said to have waiting."""
        beat = self._worker.health().heartbeat
        slots = () if beat is None else beat.slots
        here = sum(slot.num_prompt_tokens - slot.num_prefilled_tokens for slot in slots)
        at_doors = self._at_doors.num_waiting_tokens
        return {"waiting_tokens": float(here), "waiting_at_doors": float(at_doors)}

    async def __del__(self) -> None:
        """Ends the worker, once Ray has let the answers in flight come to their end."""
        if not hasattr(self, "_watching"):
            return
        self._watching.cancel()
        await self._worker.stop()

    def _state(self) -> ReplicaState:
        health = self._worker.health()
        if self._measured is None and self._num_states % _MEASURED_EVERY == 0:
            self._measured = _measured(self._state_dir, self._worker)
        self._num_states += 1
        known = None if self._measured is None else routed_node(self._measured)
        is_stalled = (health.heartbeat_age_s or 0.0) > STALLED_S
        return ReplicaState(
            node=self._node,
            state=WorkerState.RESTARTING if is_stalled else health.state,
            info=self._worker.info,
            beat=health.heartbeat,
            num_restarts=health.num_restarts,
            last_error=health.last_error,
            tokens_per_s=health.tokens_per_s,
            choice=self._plan.choice,
            predicted_bytes=self._plan.need_bytes,
            prompt_token_ms=0.0 if known is None else known.prompt_token_ms,
            token_ms=0.0 if known is None else known.token_ms,
            loads=self._at_doors.loads(),
            prompts=self._prompts.packed(),
        )


def _is_urgent(message: Message) -> bool:
    """The first token, which comes behind it, does not wait for having been announced."""
    return isinstance(message, Started)


async def _messages(worker: Client, sent: Sent) -> AsyncGenerator[Message, None]:
    match sent:
        case Submit():
            async with aclosing(worker.generate(sent.request)) as events:
                async for event in events:
                    yield event
        case AskQuestion():
            yield await worker.ask(sent.question)
        case Embed():
            yield await worker.embed(sent.request)


async def _planned(settings: ServeSettings, model_id: str) -> tuple[PlannedModel, Budget]:
    """Of several models that a fleet has, each gets the share that a server would give it:
    their replicas may be on one machine. Files are fetched or converted in children.
    """
    models = [replace(model, is_preloaded=False) for model in named_models(settings)]
    model = _named(models, model_id)
    if len(models) == 1:
        models = [replace(model, is_preloaded=True)]
    start = await asyncio.to_thread(plan_start, settings, models, Quarantine(), _log_event)
    if start.planned is not None:
        return start.planned, start.pool.budget
    loader = ModelLoader({each.id: each.spec for each in start.models}, start.pool, _log_event)
    await loader.prepare(model_id)
    return await loader.want(model_id), start.pool.budget


def _named(models: Sequence[NamedModel], model_id: str) -> NamedModel:
    for model in models:
        if model.id == model_id:
            return model
    raise BadSettings(f"{socket.gethostname()}: there is no model {model_id!r} here.")


def _log_event(event: StoreEvent) -> None:
    if not event.total_bytes or event.done_bytes == event.total_bytes:
        _log.info("%s", event.text)


def _measured(state_dir: Path, worker: Supervisor) -> MeasuredNode | None:
    """What steps take here, once that was written down."""
    if worker.info is None:
        return None
    try:
        return find_node(state_dir / "step-times", worker.info.name)
    except BadSettings:
        return None
