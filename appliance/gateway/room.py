"""Finds room for models that are to be loaded: who has to go for whom, who is loaded
smaller, who waits and how long.

Knows no process and no request. The rules, in this order, for a model that is wanted:

1. it is loaded as large as it should be, if the budget has room;
2. models that nobody uses are unloaded for it, the least recently used first;
3. it is planned smaller, if that is allowed and something fits in what could be had so;
4. it waits. Having waited for `patience_s` it is the next one: nobody else is let in
   before it, and as soon as they suffice, models in use are closed for new requests,
   answer those they have, and are unloaded for it.

So everybody gets a turn: the line is in order of arrival, who is in memory answers whom
it has let in, and no more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from appliance.errors import NothingFits
from appliance.fit.plan.budget import readable
from appliance.gateway.changes import Changes
from appliance.gateway.ledger import Ledger
from appliance.gateway.loading import Clock, Loader, LoadPlan
from appliance.gateway.managed_model import LoadState, ManagedModel, WaitLimits

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rules:
    """How models share the budget."""

    allows_smaller: bool = True  # whether a model may be loaded smaller than it should be
    patience_s: float = 10.0  # see above
    waiting: WaitLimits = field(default_factory=WaitLimits)


@dataclass
class _Search:
    """A model that looks for room."""

    model: ManagedModel
    wanted: LoadPlan
    tried_bytes: int = 0  # too few for any plan
    is_impatient: bool = False


@dataclass(kw_only=True)
class Room:
    """The line of those who look for room in one budget."""

    models: Collection[ManagedModel]  # they may come and go
    ledger: Ledger
    loader: Loader
    rules: Rules
    clock: Clock
    changes: Changes
    unload: Callable[[ManagedModel, str], None]  # with the reason
    _line: list[_Search] = field(default_factory=list)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody looks for it."""
        return bool(self._line)

    async def find(self, model: ManagedModel, wanted: LoadPlan) -> LoadPlan | None:
        """A plan for which the budget has promised the bytes; None if nobody waits, or
        a preload finds no room.
        """
        search = _Search(model, wanted)
        self._line.append(search)
        timer = self.clock.call_later(self.rules.patience_s, lambda: self._lose_patience(search))
        try:
            while model.is_preloading or model.num_waiting:
                change = self.changes.next
                plan = await self._try(search)
                if plan is not None:
                    return plan
                if model.is_preloading:
                    self._log_no_room(search)
                    return None
                await change.wait()
            return None
        finally:
            timer.cancel()
            self._line.remove(search)
            self.changes.notify()

    def idle(self) -> list[ManagedModel]:
        """Models that nobody uses, the least recently used first."""
        idle = [
            (model.loaded.idle_since_s, model)
            for model in self.models
            if model.is_idle and model.loaded is not None
        ]
        return [model for _, model in sorted(idle, key=lambda pair: pair[0])]

    def _busy(self) -> list[ManagedModel]:
        """Models in use, those that have been loaded for longest first."""
        busy = [
            (model.loaded.loaded_s, model)
            for model in self.models
            if model.state is LoadState.LOADED and model.loaded is not None and model.num_users
        ]
        return [model for _, model in sorted(busy, key=lambda pair: pair[0])]

    async def _try(self, search: _Search) -> LoadPlan | None:
        wanted = search.wanted
        if search.model.is_preloading:
            return wanted if self._promise(search, wanted, []) else None
        if self._promise(search, wanted, self.idle()):
            return wanted
        smaller = await self._smaller(search)
        if smaller is not None and self._promise(search, smaller, self.idle()):
            return smaller
        if self._is_next(search) and self._promise(search, wanted, self.idle() + self._busy()):
            return wanted
        return None

    async def _smaller(self, search: _Search) -> LoadPlan | None:
        """The best that fits in what could be had without closing models in use."""
        num_bytes = self.ledger.room_bytes + sum(
            self.ledger.held_by(idle.model_id) for idle in self.idle()
        )
        if not self.rules.allows_smaller or num_bytes <= search.tried_bytes:
            return None
        try:
            return await self.loader.plan(search.model.model_id, num_bytes)
        except NothingFits:
            search.tried_bytes = num_bytes
            return None

    def _promise(self, search: _Search, plan: LoadPlan, victims: Sequence[ManagedModel]) -> bool:
        """Promises the plan its bytes if it may have them, unloading the first of
        `victims`, as many as it takes.
        """
        if self._line[0] is not search and self._is_next(self._line[0]):
            return False
        chosen = self._fewest(victims, plan.need_bytes - self.ledger.room_bytes)
        if chosen is None:
            return False
        for victim in chosen:
            self.unload(victim, f"{search.model.model_id} is wanted")
        self.ledger.promise(search.model.model_id, plan.need_bytes)
        return True

    def _fewest(
        self, victims: Sequence[ManagedModel], missing_bytes: int
    ) -> list[ManagedModel] | None:
        """The first ones that hold as much together; a large one that comes last may
        make others unnecessary.
        """
        chosen: list[ManagedModel] = []
        for victim in victims:
            if missing_bytes <= 0:
                break
            missing_bytes -= self.ledger.held_by(victim.model_id)
            chosen.append(victim)
        if missing_bytes > 0:
            return None
        for victim in list(chosen):
            held_bytes = self.ledger.held_by(victim.model_id)
            if missing_bytes + held_bytes <= 0:
                missing_bytes += held_bytes
                chosen.remove(victim)
        return chosen

    def _is_next(self, search: _Search) -> bool:
        """First in the line, and has waited long enough."""
        return self._line[0] is search and search.is_impatient

    def _lose_patience(self, search: _Search) -> None:
        search.is_impatient = True
        self.changes.notify()

    def _log_no_room(self, search: _Search) -> None:
        _log.info(
            "%s is not loaded at the start: it needs %s, and %s are left",
            *(
                search.model.model_id,
                readable(search.wanted.need_bytes),
                readable(self.ledger.room_bytes),
            ),
        )
