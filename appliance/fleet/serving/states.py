"""What several replicas are together, for whoever sees one model. Knows no request."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import msgspec

from appliance.fleet.serving.wire import ReplicaState
from appliance.gateway.library.facts import ModelFacts
from appliance.gateway.router import ReplicaReport
from appliance.protocol.health import Heartbeat, WorkerHealth, WorkerState
from appliance.protocol.model_info import ModelInfo

# what is true of the best of them is true of all: one that answers is enough
_BEST_FIRST = (
    WorkerState.READY,
    WorkerState.RESTARTING,
    WorkerState.STARTING,
    WorkerState.LOADING,
    WorkerState.UNLOADED,
    WorkerState.STOPPED,
    WorkerState.FAILED,
)
_SUMS = ("num_running", "num_waiting", "num_steps", "num_used_cells", "prefix_host_bytes")
_MORE_SUMS = ("num_sampled_tokens", "num_rows", "busy_s", "done_ms")


def info_of(states: Sequence[ReplicaState]) -> ModelInfo | None:
    """What holds wherever a request goes: the shortest context and the slots of all; None
    before any replica has loaded it.
    """
    infos = [state.info for state in states if state.info is not None]
    if not infos:
        return None
    kinds = dict.fromkeys(info.quantization for info in infos)
    return msgspec.structs.replace(
        infos[0],
        quantization=", ".join(kinds),
        ctx=min(info.ctx for info in infos),
        slots=sum(info.slots for info in infos),
        kv_cells=sum(info.kv_cells for info in infos),
        max_waiting_tokens=sum(info.max_waiting_tokens for info in infos),
        exact_rows=all(info.exact_rows for info in infos),
        # an answer does not follow from it alone: another replica may compute it otherwise
        fingerprint=infos[0].fingerprint if len({i.fingerprint for i in infos}) == 1 else "",
    )


def facts_of(states: Sequence[ReplicaState]) -> ModelFacts:
    """By which `auto` puts models in order; empty before any replica has loaded it."""
    info = info_of(states)
    if info is None:
        return ModelFacts()
    return ModelFacts(
        num_params=info.num_params,
        quantization=info.quantization,
        num_bytes=max(state.predicted_bytes for state in states),
        embeds=bool(info.pooling),
        train_ctx=info.train_ctx,
    )


def health_of(states: Sequence[ReplicaState]) -> WorkerHealth:
    found = {state.state for state in states}
    state = next((each for each in _BEST_FIRST if each in found), WorkerState.STARTING)
    errors = [each.last_error for each in states if each.last_error is not None]
    rates = [each.tokens_per_s for each in states if each.tokens_per_s is not None]
    return WorkerHealth(
        state=state,
        pid=None,  # it is another machine's
        num_restarts=sum(each.num_restarts for each in states),
        last_error=errors[-1] if errors else None,
        heartbeat=_beat_of([each.beat for each in states if each.beat is not None]),
        heartbeat_age_s=None,
        tokens_per_s=sum(rates) if rates else None,
    )


def reports_of(states: Sequence[ReplicaState]) -> list[ReplicaReport]:
    """Of each, as clients see it."""
    return [
        ReplicaReport(
            node=state.node,
            state=state.state.value,
            quantization=None if state.info is None else state.info.quantization,
            ctx=None if state.info is None else state.info.ctx,
            slots=None if state.info is None else state.info.slots,
            choice=state.choice,
            predicted_bytes=state.predicted_bytes,
            num_running=0 if state.beat is None else state.beat.num_running,
            num_waiting=0 if state.beat is None else state.beat.num_waiting,
            num_restarts=state.num_restarts,
            last_error=state.last_error,
        )
        for state in states
    ]


def _beat_of(beats: Sequence[Heartbeat]) -> Heartbeat | None:
    return reduce(_together, beats) if beats else None


def _together(one: Heartbeat, other: Heartbeat) -> Heartbeat:
    sums = {name: getattr(one, name) + getattr(other, name) for name in (*_SUMS, *_MORE_SUMS)}
    return msgspec.structs.replace(
        one,
        **sums,
        step_age_s=max(one.step_age_s, other.step_age_s),
        tokenize_age_s=max(one.tokenize_age_s, other.tokenize_age_s),
        slots=[*one.slots, *other.slots],
    )
