"""Which of the served models are in memory: loads them when they are wanted, unloads who is not used, within a budget.

Knows no HTTP, no file, and not how a model is planned or loaded (`Loader`); who has to go for whom is decided in
`room`. Runs on one event loop; between two awaits its state is consistent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.errors import ApplianceError, WorkerLost
from appliance.fit.plan.budget import readable
from appliance.gateway.changes import Changes
from appliance.gateway.ledger import Ledger
from appliance.gateway.loading import Clock, Loader, LoopClock
from appliance.gateway.resident import Listener, Progress, Residence, Resident, Tenancy
from appliance.gateway.room import Room, Rules

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """A model that is served; `keep_alive_s` (infinite: for ever) it stays in memory when nobody uses it."""

    model_id: str
    keep_alive_s: float


class Residency:
    """The models by id, and the budget they share: `total_bytes` for all their workers together."""

    def __init__(
        self,
        models: Sequence[Terms],
        loader: Loader,
        total_bytes: int,
        rules: Rules | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._rules = rules or Rules()
        self._clock = clock or LoopClock()
        self._loader = loader
        self._ledger = Ledger(total_bytes)
        listener = Listener(
            on_wanted=self._wanted, on_idle=self._idle, on_left=lambda _resident: self._changes.notify()
        )
        self._residents = {
            terms.model_id: Resident(terms.model_id, terms.keep_alive_s, self._rules.waiting, self._clock, listener)
            for terms in models
        }
        self._changes = Changes()
        self._room = Room(
            self.residents, self._ledger, loader, self._rules, self._clock, self._changes, self._begin_unload
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lost: WorkerLost | None = None
        self._is_closing = False

    # --- what others see -------------------------------------------------------------------------------------------

    @property
    def residents(self) -> tuple[Resident, ...]:
        return tuple(self._residents.values())

    @property
    def total_bytes(self) -> int:
        return self._ledger.total_bytes

    @property
    def held_bytes(self) -> int:
        """What loaded and loading models are predicted to need."""
        return self._ledger.held_bytes

    def resident(self, model_id: str) -> Resident:
        return self._residents[model_id]

    def anonymous_bytes(self, model_id: str) -> int | None:
        """What a model's worker should need at most, beside its mapped file; None while there is none."""
        tenancy = self._residents[model_id].tenancy
        return None if tenancy is None else tenancy.plan.anonymous_bytes

    async def preload(self, model_ids: Sequence[str]) -> None:
        """Loads these one after the other, as far as there is room for them without unloading any.

        A model that cannot be loaded is told and left out. The only one that is served raises why.
        """
        for model_id in model_ids:
            resident = self._residents[model_id]
            if resident.state is Residence.UNLOADED and not self._is_closing:
                await self._begin_load(resident, is_preload=True)
            elif len(self._residents) == 1:  # a request was there first
                await self._loaded_or_not(resident)
            if resident.error is not None and len(self._residents) == 1:
                raise resident.error

    async def _loaded_or_not(self, resident: Resident) -> None:
        await self._changes.until(lambda: resident.state is not Residence.LOADING)

    async def failed(self) -> None:
        """Waits until the only model is lost for good, and raises `WorkerLost`; never ends if there are several."""
        await self._changes.until(lambda: self._lost is not None)
        assert self._lost is not None
        raise self._lost

    async def unload_idle(self) -> bool:
        """Unloads the model that has not been used for longest; False if all are in use."""
        idle = self._room.idle()
        if idle:
            self._begin_unload(idle[0], "memory is short")
            await self._changes.until(lambda: idle[0].state is not Residence.UNLOADING)
        return bool(idle)

    async def close(self) -> None:
        """Ends loads and workers; who waits or is being answered gets `ShuttingDown`. Leaves no process behind."""
        self._is_closing = True
        for resident in self.residents:
            resident.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        tenancies = [resident.tenancy for resident in self.residents if resident.tenancy is not None]
        await asyncio.gather(*(tenancy.worker.stop() for tenancy in tenancies))

    # --- loading ---------------------------------------------------------------------------------------------------

    def _wanted(self, resident: Resident) -> None:
        if resident.state in (Residence.UNLOADED, Residence.FAILED) and not self._is_closing:
            self._begin_load(resident, is_preload=False)

    def _begin_load(self, resident: Resident, *, is_preload: bool) -> asyncio.Task[None]:
        resident.begin_load(is_preload=is_preload)
        return self._spawn(self._load(resident), f"load {resident.model_id}")

    async def _load(self, resident: Resident) -> None:
        try:
            is_loaded = await self._bring_in(resident)
        except ApplianceError as error:
            _log.error("%s could not be loaded: %s", resident.model_id, error.message)
            self._release(resident)
            resident.fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting
            _log.exception("%s could not be loaded", resident.model_id)
            self._release(resident)
            resident.fail(ApplianceError(f"An unexpected error: {error}"))
        else:
            if is_loaded:
                resident.loaded()
            else:
                self._release(resident)
                resident.gone()
                if resident.num_waiting:
                    self._wanted(resident)
        self._changes.notify()

    async def _bring_in(self, resident: Resident) -> bool:
        """From nothing to a worker that is ready; False if there is no room for a preload, or nobody waits any more."""
        await self._loader.prepare(resident.model_id)
        resident.progress = Progress.PLANNING
        wanted = await self._loader.want(resident.model_id)
        resident.progress = Progress.LOOKING_FOR_ROOM
        plan = await self._room.find(resident, wanted)
        if plan is None:
            return False
        resident.progress = Progress.MAKING_ROOM
        await self._changes.until(lambda: self._ledger.take(resident.model_id))
        resident.progress = Progress.STARTING
        tenancy = Tenancy(plan.make_worker(), plan, wanted.need_bytes)
        resident.tenancy = tenancy
        _tell_of_load(resident, tenancy)
        try:
            await tenancy.worker.start()
        except Exception:
            await tenancy.worker.stop()
            raise
        tenancy.watch = self._spawn(self._watch(resident, tenancy), f"watch {resident.model_id}")
        return True

    # --- unloading -------------------------------------------------------------------------------------------------

    def _idle(self, resident: Resident) -> None:
        if self._is_closing:
            return
        if resident.state is Residence.UNLOADING:
            self._spawn(self._unload(resident), f"unload {resident.model_id}")
        elif resident.stay_s <= 0:
            self._begin_unload(resident, "it is kept only while it is used")
        elif not self._make_way_for_full_size(resident):
            resident.keep_alive(lambda: self._begin_unload(resident, f"unused for {resident.stay_s:g} s"))
        self._changes.notify()

    def _make_way_for_full_size(self, resident: Resident) -> bool:
        """Unloads an idle model that had to be loaded smaller, once there is room for all of it."""
        tenancy = resident.tenancy
        if tenancy is None or not resident.is_idle or not tenancy.is_reduced or self._room.is_wanted:
            return False
        if tenancy.wanted_bytes > self._ledger.room_bytes + tenancy.plan.need_bytes:
            return False
        self._begin_unload(resident, "the next request can have it in full size")
        return True

    def _begin_unload(self, resident: Resident, why: str) -> None:
        _log.info("%s is unloaded: %s", resident.model_id, why)
        resident.begin_unload()
        self._ledger.leave(resident.model_id)
        if resident.num_users == 0:
            self._spawn(self._unload(resident), f"unload {resident.model_id}")

    async def _unload(self, resident: Resident) -> None:
        assert resident.tenancy is not None
        assert resident.num_users == 0
        if resident.tenancy.watch is not None:
            resident.tenancy.watch.cancel()
        await resident.tenancy.worker.stop()
        self._release(resident)
        resident.gone()
        if resident.num_waiting:
            self._wanted(resident)
        self._changes.notify()

    async def _watch(self, resident: Resident, tenancy: Tenancy) -> None:
        """A worker that nobody will start again is a model that has to be loaded anew."""
        try:
            await tenancy.worker.failed()
        except WorkerLost as error:
            if resident.tenancy is not tenancy or resident.state is not Residence.LOADED:
                return  # it is being unloaded anyway
            resident.lost()
            self._ledger.leave(resident.model_id)
            await tenancy.worker.stop()
            self._release(resident)
            resident.fail(error)
            if len(self._residents) == 1:
                self._lost = error
            self._changes.notify()

    # --- in between ------------------------------------------------------------------------------------------------

    def _release(self, resident: Resident) -> None:
        self._ledger.release(resident.model_id)
        for other in self.residents:
            self._make_way_for_full_size(other)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s went wrong", task.get_name(), exc_info=error)


def _tell_of_load(resident: Resident, tenancy: Tenancy) -> None:
    words = f"{resident.model_id} is being loaded: {tenancy.plan.choice}, {readable(tenancy.plan.need_bytes)}"
    if tenancy.is_reduced:
        _log.warning("%s; smaller than it should be (%s), for lack of memory", words, readable(tenancy.wanted_bytes))
    else:
        _log.info("%s", words)
