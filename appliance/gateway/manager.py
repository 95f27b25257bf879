"""Which of the served models are in memory: loads them when they are wanted, unloads
who is not used, within a budget.

Knows no HTTP, no file, and not how a model is planned or loaded (`Loader`); who has to
go for whom is decided in `room`. Runs on one event loop; between two awaits its state
is consistent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from appliance.errors import ApplianceError, HelperLost, WorkerLost
from appliance.fit.plan.budget import readable
from appliance.gateway.changes import Changes
from appliance.gateway.ledger import Ledger
from appliance.gateway.loading import Clock, Loader, LoopClock
from appliance.gateway.managed_model import (
    Listener,
    LoadedModel,
    LoadProgress,
    LoadState,
    ManagedModel,
)
from appliance.gateway.room import Room, Rules

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """A model that is served."""

    model_id: str
    keep_alive_s: float  # how long it stays when nobody uses it; infinite: for ever


class ModelManager:
    """The models by id, and the budget they share:
    `total_bytes` for all their workers together.
    """

    def __init__(
        self,
        models: Sequence[Terms],
        loader: Loader,
        total_bytes: int,
        *,
        rules: Rules | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._rules = rules or Rules()
        self._clock = clock or LoopClock()
        self._loader = loader
        self._ledger = Ledger(total_bytes)
        listener = Listener(
            on_wanted=self._wanted,
            on_idle=self._idle,
            on_left=lambda _model: self._changes.notify(),
        )
        self._listener = listener
        self._models: dict[str, ManagedModel] = {}
        for terms in models:
            self.add(terms)
        self._changes = Changes()
        self._room = Room(
            models=self._models.values(),
            ledger=self._ledger,
            loader=loader,
            rules=self._rules,
            clock=self._clock,
            changes=self._changes,
            unload=self._begin_unload,
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lost: WorkerLost | None = None
        self._is_closing = False

    # --- what others see --------------------------------------------------------------

    @property
    def models(self) -> tuple[ManagedModel, ...]:
        return tuple(self._models.values())

    @property
    def total_bytes(self) -> int:
        return self._ledger.total_bytes

    @property
    def held_bytes(self) -> int:
        """What loaded and loading models are predicted to need."""
        return self._ledger.held_bytes

    def model(self, model_id: str) -> ManagedModel:
        return self._models[model_id]

    def add(self, terms: Terms) -> ManagedModel:
        """A model that may be loaded from now on."""
        assert terms.model_id not in self._models
        model = ManagedModel(
            model_id=terms.model_id,
            keep_alive_s=terms.keep_alive_s,
            limits=self._rules.waiting,
            clock=self._clock,
            listener=self._listener,
        )
        self._models[terms.model_id] = model
        return model

    async def remove(self, model_id: str) -> None:
        """Unloads a model for ever, once nobody uses it any more."""
        model = self._models[model_id]
        await self._changes.until(lambda: model.state is not LoadState.LOADING)
        if model.state is LoadState.LOADED:
            self._begin_unload(model, "it is removed")
        await self._changes.until(lambda: model.loaded is None)
        self._models.pop(model_id, None)

    def anonymous_bytes(self, model_id: str) -> int | None:
        """What a model's worker should need at most, beside its mapped file; None while
        there is none, or for a name that shares another one's.
        """
        model = self._models.get(model_id)
        loaded = None if model is None else model.loaded
        return None if loaded is None else loaded.plan.anonymous_bytes

    async def preload(self, model_ids: Sequence[str]) -> None:
        """Loads these one after the other,
        as far as there is room for them without unloading any.

        A model that cannot be loaded is logged and left out. The only one that is
        served raises why.
        """
        for model_id in model_ids:
            model = self._models[model_id]
            if model.state is LoadState.UNLOADED and not self._is_closing:
                await self._begin_load(model, is_preload=True)
            elif len(self._models) == 1:  # a request was there first
                await self._loaded_or_not(model)
            if model.error is not None and len(self._models) == 1:
                raise model.error

    async def _loaded_or_not(self, model: ManagedModel) -> None:
        await self._changes.until(lambda: model.state is not LoadState.LOADING)

    async def failed(self) -> None:
        """Waits until the only model is lost for good, and raises `WorkerLost`; never
        ends if there are several.
        """
        await self._changes.until(lambda: self._lost is not None)
        assert self._lost is not None
        raise self._lost

    async def unload_idle(self) -> bool:
        """Unloads the model that has not been used for longest;
        False if all are in use.
        """
        idle = self._room.idle()
        if idle:
            self._begin_unload(idle[0], "memory is short")
            await self._changes.until(lambda: idle[0].state is not LoadState.UNLOADING)
        return bool(idle)

    async def close(self) -> None:
        """Ends loads and workers; who waits or is being answered gets `ShuttingDown`.

        Leaves no process behind.
        """
        self._is_closing = True
        for model in self.models:
            model.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        loaded_models = [model.loaded for model in self.models if model.loaded is not None]
        await asyncio.gather(*(loaded.worker.stop() for loaded in loaded_models))

    # --- loading ----------------------------------------------------------------------

    def _wanted(self, model: ManagedModel) -> None:
        if model.state in (LoadState.UNLOADED, LoadState.FAILED) and not self._is_closing:
            self._begin_load(model, is_preload=False)

    def _begin_load(self, model: ManagedModel, *, is_preload: bool) -> asyncio.Task[None]:
        model.begin_load(is_preload=is_preload)
        return self._spawn(self._load(model), f"load {model.model_id}")

    async def _load(self, model: ManagedModel) -> None:
        try:
            is_loaded = await self._bring_in(model)
        except ApplianceError as error:
            _log.error("%s could not be loaded: %s", model.model_id, error.message)
            self._release(model)
            model.fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting
            _log.exception("%s could not be loaded", model.model_id)
            self._release(model)
            model.fail(ApplianceError(f"Unexpected error: {error}"))
        else:
            if is_loaded:
                model.finish_loading()
            else:
                self._release(model)
                model.gone()
                if model.num_waiting:
                    self._wanted(model)
        self._changes.notify()

    async def _bring_in(self, model: ManagedModel) -> bool:
        """From nothing to a worker that is ready; False if there is no room for a
        preload, or nobody waits any more.
        """
        await self._loader.prepare(model.model_id)
        model.progress = LoadProgress.PLANNING
        wanted = await self._loader.want(model.model_id)
        model.progress = LoadProgress.LOOKING_FOR_ROOM
        plan = await self._room.find(model, wanted)
        if plan is None:
            return False
        model.progress = LoadProgress.MAKING_ROOM
        await self._changes.until(lambda: self._ledger.take(model.model_id))
        model.progress = LoadProgress.STARTING
        loaded = LoadedModel(worker=plan.make_worker(), plan=plan, wanted_bytes=wanted.need_bytes)
        model.loaded = loaded
        _log_load(model, loaded)
        try:
            await loaded.worker.start()
        except Exception:
            await loaded.worker.stop()
            raise
        loaded.watch = self._spawn(self._watch(model, loaded), f"watch {model.model_id}")
        return True

    # --- unloading --------------------------------------------------------------------

    def _idle(self, model: ManagedModel) -> None:
        if self._is_closing:
            return
        if model.state is LoadState.UNLOADING:
            self._spawn(self._unload(model), f"unload {model.model_id}")
        elif model.stay_s <= 0:
            self._begin_unload(model, "it is kept only while it is used")
        elif not self._make_way_for_full_size(model):
            model.keep_alive(lambda: self._begin_unload(model, f"unused for {model.stay_s:g} s"))
        self._changes.notify()

    def _make_way_for_full_size(self, model: ManagedModel) -> bool:
        """Unloads an idle model that had to be loaded smaller,
        once there is room for all of it.
        """
        loaded = model.loaded
        if loaded is None or not model.is_idle or not loaded.is_reduced or self._room.is_wanted:
            return False
        if loaded.wanted_bytes > self._ledger.room_bytes + loaded.plan.need_bytes:
            return False
        self._begin_unload(model, "the next request can have it in full size")
        return True

    def _begin_unload(self, model: ManagedModel, why: str) -> None:
        _log.info("%s is unloaded: %s", model.model_id, why)
        model.begin_unload()
        self._ledger.leave(model.model_id)
        if model.num_users == 0:
            self._spawn(self._unload(model), f"unload {model.model_id}")

    async def _unload(self, model: ManagedModel) -> None:
        assert model.loaded is not None
        assert model.num_users == 0
        if model.loaded.watch is not None:
            model.loaded.watch.cancel()
        await model.loaded.worker.stop()
        self._release(model)
        model.gone()
        if model.num_waiting:
            self._wanted(model)
        self._changes.notify()

    async def _watch(self, model: ManagedModel, loaded: LoadedModel) -> None:
        """A worker that nobody will start again is a model
        that has to be loaded anew.
        """
        try:
            await loaded.worker.failed()
        except WorkerLost as error:
            if model.loaded is not loaded or model.state is not LoadState.LOADED:
                return  # it is being unloaded anyway
            model.lost()
            self._ledger.leave(model.model_id)
            await loaded.worker.stop()
            self._release(model)
            if isinstance(error, HelperLost):  # on what is left
                _log.error("%s: %s", model.model_id, error.message)
                model.gone()
                self._begin_load(model, is_preload=True)
                return
            model.fail(error)
            if len(self._models) == 1:
                self._lost = error
            self._changes.notify()

    # --- in between -------------------------------------------------------------------

    def _release(self, model: ManagedModel) -> None:
        self._ledger.release(model.model_id)
        for other in self.models:
            self._make_way_for_full_size(other)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        # in a context of its own: it outlives the request that it is begun for
        task = Context().run(asyncio.create_task, work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the task '%s' failed", task.get_name(), exc_info=error)


def _log_load(model: ManagedModel, loaded: LoadedModel) -> None:
    need = readable(loaded.plan.need_bytes)
    words = f"{model.model_id} is being loaded: {loaded.plan.choice}, {need}"
    if loaded.is_reduced:
        _log.warning(
            "%s; smaller than planned (%s) for lack of memory",
            words,
            readable(loaded.wanted_bytes),
        )
    else:
        _log.info("%s", words)
