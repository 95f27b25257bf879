"""A manager of made-up models under one budget
and a made-up clock, and requests to them.

Knows no expectations: those are in the tests.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence

from appliance.gateway.managed_model import LoadState
from appliance.gateway.manager import ModelManager, Terms
from appliance.gateway.room import Rules
from appliance.protocol.events import Event
from tests.gateway.fake_loader import FakeClock, FakeLoader, keeping, settle

PATIENCE_S = 10.0


class House:
    """Models of the given sizes under one budget."""

    def __init__(
        self,
        sizes: Mapping[str, int | Sequence[int]],
        total_bytes: int,
        *,
        keep_alive_s: float = math.inf,
        rules: Rules | None = None,
    ) -> None:
        listed = {name: [size] if isinstance(size, int) else size for name, size in sizes.items()}
        self.clock = FakeClock()
        self.loader = FakeLoader(listed, total_bytes)
        terms = [Terms(name, keep_alive_s) for name in sizes]
        self.manager = ModelManager(
            terms,
            self.loader,
            total_bytes,
            rules=rules or Rules(patience_s=PATIENCE_S),
            clock=self.clock,
        )

    async def answer(self, model_id: str, keep_alive_s: float | None = None) -> list[Event]:
        request = keeping(keep_alive_s)
        return [event async for event in self.manager.model(model_id).generate(request)]

    def ask(self, model_id: str, keep_alive_s: float | None = None) -> asyncio.Task[list[Event]]:
        return asyncio.create_task(self.answer(model_id, keep_alive_s))

    async def hold(self, model_id: str) -> asyncio.Task[list[Event]]:
        """A request that is being answered until the gate of its model is opened."""
        self.loader.answer_gate(model_id).clear()
        asked = self.ask(model_id)
        await settle()
        assert self.state(model_id) is LoadState.LOADED
        return asked

    def let_finish(self, model_id: str) -> None:
        self.loader.answer_gate(model_id).set()

    def state(self, model_id: str) -> LoadState:
        return self.manager.model(model_id).state

    @property
    def states(self) -> dict[str, str]:
        return {model.model_id: model.state.value for model in self.manager.models}
