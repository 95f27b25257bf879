"""How a worker is doing, in numbers. Knows no process."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec

from appliance.protocol.events import Drafts
from appliance.protocol.record import Record


class Slot(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A request that runs, and how far it has come, in tokens; `state` is a `Status`."""

    id: int
    request_id: int
    state: str
    num_prompt_tokens: int
    num_prefilled_tokens: int
    num_cached_tokens: int
    num_new_tokens: int
    max_new_tokens: int


class Heartbeat(Record, frozen=True, kw_only=True):
    """Sent every second from a thread of its own: the process lives.

    `step_age_s` is how long the current step has been running, `tokenize_age_s` the
    oldest tokenization in progress, `prefix_host_bytes` what saved prefixes take of
    host memory, `num_sampled_tokens` all tokens generated so far, `drafts` what
    speculation brought to them. `slots` are those in use.
    """

    num_running: int
    num_waiting: int
    num_steps: int
    num_used_cells: int
    step_age_s: float
    tokenize_age_s: float = 0.0
    prefix_host_bytes: int = 0
    num_sampled_tokens: int = 0
    drafts: Drafts = Drafts()
    slots: list[Slot] = msgspec.field(default_factory=list)


class WorkerState(str, enum.Enum):
    UNLOADED = "unloaded"  # none runs, until somebody asks for the model
    LOADING = "loading"  # somebody has asked, and waits
    STARTING = "starting"  # first load in progress, for nobody yet
    READY = "ready"
    RESTARTING = "restarting"  # it died; a new one is awaited or loading
    FAILED = "failed"  # it cannot load the model; see `last_error`
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class WorkerHealth:
    """What the parent knows without asking the worker anything."""

    state: WorkerState
    pid: int | None
    num_restarts: int
    last_error: str | None
    heartbeat: Heartbeat | None
    heartbeat_age_s: float | None
    tokens_per_s: float | None = None  # generated, over the last seconds
