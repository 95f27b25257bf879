"""What a node says of itself beside what its steps take. Knows no file and no cost model."""

from __future__ import annotations

import msgspec


class NodeMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan says that serving a model takes of RAM, at its worst moment; 0: not known."""

    total_bytes: int = 0  # with the parent's process
    weights_bytes: int = 0  # repacked ones too
    kv_bytes: int = 0


class NodeDescription(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one machine, as its worker serves it; written by name, for people and other
    machines read it.
    """

    model: str  # its file's name, without the ending
    machine: str
    ctx: int  # tokens of the longest request
    slots: int
    kv_cells: int
    max_rows: int  # of one decode
    kept_cells: int  # that may hold prefixes of nobody who runs
    kept_s: float  # for which they do
    max_stall_ms: int  # see `appliance.engine.limits.Limits`
    # What files of earlier versions do not tell.
    max_kept_slowdown: float | None = None  # of a stream, by prefixes that nobody uses
    host_bytes: int = 0  # for prefixes that had to leave the KV cache
    threads: int = 0  # that compute
    kv_type: str = ""
    memory: NodeMemory = NodeMemory()
