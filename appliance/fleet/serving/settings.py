"""A fleet's file: the settings of a server, and a table `[fleet]` of what a fleet has besides.

Knows no Ray and no model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from appliance.errors import BadSettings
from appliance.fleet.routing import Policy
from appliance.settings import ServeSettings
from appliance.settings.sources import load_table, read_toml

TABLE = "fleet"
PER_NODE = "per-node"
_MOST_REPLICAS = 10_000


class Scaling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As many replicas as the load needs, within bounds."""

    min: int = 1
    max: int
    # tokens of prompts and answers that may wait for each replica before there is one more
    waiting_tokens: int = 4000


Replicas = int | str | Scaling


class FleetTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[fleet]`."""

    ray: str = "127.0.0.1:6379"  # where the head listens
    routing: Policy = Policy.PREFIX
    # that take requests, on nodes of their own; None: one on each node
    doors: int | None = None
    # of each model, by its id; those that are not named: one on each node
    replicas: dict[str, Replicas] = {}
    cpus: float = 0.0  # that Ray counts for a replica; 0: one replica on each node, whatever it has
    silence_s: float = 10.0  # after which a replica that says nothing is given up
    settling_s: float = 30.0  # for which a wish for more or fewer replicas has to last


class FleetFile(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, as it goes to the nodes."""

    table: dict[str, Any]  # the settings of a server
    folder: str
    fleet: FleetTable


def read_fleet_file(path: Path) -> FleetFile:
    """Raises `BadSettings` that names the file, the key and what is allowed."""
    table, file = read_toml(path)
    own = table.pop(TABLE, {})
    try:
        fleet = msgspec.convert(own, FleetTable)
    except msgspec.ValidationError as error:
        raise BadSettings(f"[{TABLE}] in {file}: {_plain(str(error))}") from error
    for name, replicas in fleet.replicas.items():
        if fault := _fault(replicas):
            raise BadSettings(f"[{TABLE}.replicas] in {file}: {name} {fault}")
    if fleet.doors is not None and fleet.doors < 1:
        raise BadSettings(f"[{TABLE}] in {file}: doors must be 1 or more (got {fleet.doors}).")
    for key in ("silence_s", "settling_s"):
        if not 0 < getattr(fleet, key) < float("inf"):
            raise BadSettings(f"[{TABLE}] in {file}: {key} must be a number of seconds above 0.")
    return FleetFile(table=table, folder=str(file.parent), fleet=fleet)


def node_settings(table: Mapping[str, Any], folder: Path) -> ServeSettings:
    """What the fleet's file says, on this node: its own APPLIANCE_ variables come first, so
    that a node can keep its models elsewhere, or take less memory.

    Raises `BadSettings`.
    """
    file = folder / "fleet.toml"
    return load_table(ServeSettings, dict(table), file, flags={}, environ=os.environ)


def _fault(replicas: Replicas) -> str:
    if isinstance(replicas, str):
        return "" if replicas == PER_NODE else f'must be a number, "{PER_NODE}" or {{min, max}}.'
    if isinstance(replicas, int):
        is_one = 1 <= replicas <= _MOST_REPLICAS
        return "" if is_one else f"must be between 1 and {_MOST_REPLICAS} (got {replicas})."
    if not 1 <= replicas.min <= replicas.max <= _MOST_REPLICAS:
        return f"needs 1 <= min <= max (got min {replicas.min}, max {replicas.max})."
    return "" if replicas.waiting_tokens >= 1 else "needs waiting_tokens of 1 or more."


def _plain(message: str) -> str:
    """msgspec's words, less those of JSON."""
    return message.replace("Object contains", "there is an").replace(" - at `$", " (at `fleet") + (
        ")." if " - at `$" in message else "."
    )
