"""Workers' configurations, of which a test says what it is about."""

from __future__ import annotations

from typing import Any

from appliance.worker.config import WorkerConfig


def plain_config(**fields: Any) -> WorkerConfig:
    """`fields`, and nothing kept of what was computed unless they say so."""
    plain: dict[str, Any] = {
        "max_waiting_tokens": 65536,
        "max_stall_ms": 200,
        "resident_prefix_cells": 0,
        "prefix_host_bytes": 0,
        "prefix_disk_bytes": 0,
        "prefix_ttl_s": 3600.0,
        "use_extra_bufts": False,
    }
    return WorkerConfig(**{**plain, **fields})
