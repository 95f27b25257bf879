"""How a worker is doing, in numbers. Knows no process."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec

from appliance.protocol.events import Drafts
from appliance.protocol.record import Record


class Slot(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A request that runs, and how far it has come, in tokens."""

    id: int  # of the slot
    request_id: int
    state: str  # a `SequenceStatus`
    num_prompt_tokens: int
    num_prefilled_tokens: int  # of the prompt, cached ones included
    num_cached_tokens: int  # of the prompt, taken over from a known prefix
    num_new_tokens: int
    max_new_tokens: int


class Heartbeat(Record, frozen=True, kw_only=True):
    """Sent every second from a thread of its own: the process lives."""

    num_running: int  # requests
    num_waiting: int
    num_steps: int  # since the process was started
    num_used_cells: int
    step_age_s: float  # how long the current step has been running; 0 between steps
    tokenize_age_s: float = 0.0  # the same of the oldest tokenization in progress
    prefix_host_bytes: int = 0  # saved prefixes in host memory
    num_sampled_tokens: int = 0  # since the process was started
    drafts: Drafts = Drafts()  # what speculation brought to them
    slots: list[Slot] = msgspec.field(default_factory=list)  # those in use
    num_rows: int = 0  # computed in those steps, since the process was started
    # Since the process was started: seconds of computing steps, and of resting in between,
    # and what these steps would take at the speed that was known before.
    busy_s: float = 0.0
    done_ms: float = 0.0


class WorkerState(str, enum.Enum):
    """What a model's worker is doing, as its users see it."""

    UNLOADED = "unloaded"  # none runs, until somebody asks for the model
    LOADING = "loading"  # somebody has asked, and waits
    STARTING = "starting"  # first load in progress, for nobody yet
    READY = "ready"
    RESTARTING = "restarting"  # it died; a new one is awaited or loading
    FAILED = "failed"  # it cannot load the model; see `last_error`
    STOPPED = "stopped"

    @property
    def in_words(self) -> str:
        """What the worker is doing."""
        return _IN_WORDS.get(self, "is restarting")


_IN_WORDS = {
    WorkerState.STARTING: "is starting",
    WorkerState.FAILED: "has failed",
    WorkerState.STOPPED: "has stopped",
}


@dataclass(frozen=True, kw_only=True)
class WorkerHealth:
    """What the parent knows without asking the worker anything."""

    state: WorkerState
    pid: int | None  # None while no process runs
    num_restarts: int
    last_error: str | None  # how the last process ended
    heartbeat: Heartbeat | None  # the last one; None while the worker is not ready
    heartbeat_age_s: float | None  # since anything was heard of it
    tokens_per_s: float | None = None  # generated, over the last seconds
