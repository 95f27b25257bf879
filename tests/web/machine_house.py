"""A server whose one model is loaded by a plan and computes something. Knows no page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from appliance.gateway.accounts.admission import Admission
from appliance.gateway.library.library import Library
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.loading import LoadPlan
from appliance.gateway.managed_model import LoadReport, LoadState
from appliance.gateway.router import Router, ServedModel
from appliance.gateway.usage.log import UsageLog
from appliance.protocol.health import Heartbeat, Slot, WorkerHealth
from tests.api.scripted_client import CREATED, ScriptedClient

MIB = 1 << 20
BEAT = Heartbeat(
    num_running=2,
    num_waiting=1,
    num_steps=10,
    num_used_cells=600,
    step_age_s=0.0,
    slots=[
        Slot(
            id=0,
            request_id=7,
            state="prefill",
            num_prompt_tokens=2000,
            num_prefilled_tokens=1500,
            num_cached_tokens=500,
            num_new_tokens=0,
            max_new_tokens=100,
        ),
        Slot(
            id=2,
            request_id=8,
            state="decode",
            num_prompt_tokens=90,
            num_prefilled_tokens=90,
            num_cached_tokens=0,
            num_new_tokens=40,
            max_new_tokens=160,
        ),
    ],
)


@dataclass(frozen=True)
class HousePlan:
    """A `LoadPlan` to be read, not to be followed."""

    need_bytes: int = 300 * MIB
    anonymous_bytes: int = 100 * MIB
    choice: str = "Q4_1, context 2048, 8192 cells of q8_0, 4 slots"
    reason: str = "Q4_1 is the best that fits <b>here</b>."
    parts: Mapping[str, int] = field(
        default_factory=lambda: {"weights": 200 * MIB, "KV cache": 100 * MIB}
    )


class Busy(ScriptedClient):
    def health(self) -> WorkerHealth:
        return replace(super().health(), heartbeat=BEAT)


@dataclass
class MachineHouse:
    """`stays` holds what was asked of the model: for how long it is to stay loaded."""

    is_loaded: bool = True
    stays: list[float | None] = field(default_factory=list)

    def report(self) -> LoadReport:
        plan = cast("LoadPlan", HousePlan()) if self.is_loaded else None
        fields: dict[str, Any] = {
            "state": LoadState.LOADED if self.is_loaded else LoadState.UNLOADED,
            "num_users": 0,
            "num_waiting": 0,
            "progress": None,
            "error": None,
            "keep_alive_s": 300.0,
            "predicted_bytes": None if plan is None else plan.need_bytes,
            "plan": plan,
            "is_reduced": False,
            "idle_s": 12.0,
            "unload_in_s": 288.0,
        }
        return LoadReport(**fields)

    async def stay(self, keep_alive_s: float | None) -> None:
        self.stays.append(keep_alive_s)
        self.is_loaded = keep_alive_s != 0

    def gateway(
        self,
        keys: Collection[str] = (),
        usage: UsageLog | None = None,
        library: Library | None = None,
    ) -> Gateway:
        model = ServedModel(
            id="novels",
            client=Busy(),
            created=CREATED,
            load_report=self.report,
            stay=self.stay,
        )
        return Gateway(Router([model]), Admission(keys), usage=usage, library=library)
