"""How much may wait for one model, and how much of it is given to its worker at once.

Knows no request and no caller.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.protocol.model_info import ModelInfo

MAX_WAITING = 256  # requests for one model
# What waits in the worker is tokenized before a slot is free, and takes it at the next
# step. What waits there has its place in line, whoever comes: so it is few.
_LOOK_AHEAD = 2
# A step of an embedding model takes whole inputs of many requests.
_EMBEDDING_REQUESTS = 64


@dataclass(frozen=True, kw_only=True)
class QueueLimits:
    """Of one model, as it is loaded now."""

    num_at_once: int  # requests that its worker has
    max_waiting: int  # requests
    max_waiting_tokens: int | None  # of their prompts, estimated; None: no limit but the worker's


def limits_of(info: ModelInfo | None, max_waiting: int = MAX_WAITING) -> QueueLimits | None:
    """None: nothing is known of the model yet, and who waits for it to be loaded is its
    own (`appliance.gateway.managed_model`).
    """
    if info is None:
        return None
    return QueueLimits(
        num_at_once=_EMBEDDING_REQUESTS if info.pooling else info.slots + _LOOK_AHEAD,
        max_waiting=max_waiting,
        max_waiting_tokens=info.max_waiting_tokens or None,
    )
