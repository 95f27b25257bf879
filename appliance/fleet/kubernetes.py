"""A planned fleet as values of the Helm chart (deploy/helm/appliance). Knows no cluster.

Written as YAML by hand: each value is JSON, which YAML holds (https://yaml.org/spec/1.2.2/),
so names may have anything in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from appliance.errors import BadSettings
from appliance.fleet.routing import Policy
from appliance.protocol.measured_node import NodeDescription

_HEAD = """\
# {nodes} of {model}, as measured on {machine}.
# helm install appliance deploy/helm/appliance --values THIS_FILE \\
#     --set image.repository=REGISTRY/appliance --set apiKeys.existingSecret=appliance-keys
"""
_POLICIES = {
    Policy.PREFIX: "A Service routes by chance and not by prefix, so prompts are computed again: "
    "plan with --policy random2 as well.",
    Policy.ROUND_ROBIN: "A Service routes by chance, and so as evenly in the long run.",
    Policy.LEAST_TOKENS: "A Service does not look at queues: plan with --policy random2 as well.",
    Policy.RANDOM2: "A Service routes by chance, without looking at queues: add some nodes.",
}


def helm_values(node: NodeDescription, *, num_nodes: int, model: str, policy: Policy) -> str:
    """`num_nodes` replicas like `node`, each with the memory of its plan and of the prefixes
    that it may move out of the KV cache. `model` as `appliance serve` finds it there.

    Raises `BadSettings` where `node` does not say what it takes.
    """
    if not node.memory.total_bytes:
        raise BadSettings(
            f"What {node.model} takes of memory was not written down yet. Serve it once with this "
            "version, and stop it."
        )
    return "".join(_lines(node, num_nodes, model, policy))


def _lines(node: NodeDescription, num_nodes: int, model: str, policy: Policy) -> Iterator[str]:
    nodes = "1 node" if num_nodes == 1 else f"{num_nodes} nodes"
    yield _HEAD.format(nodes=nodes, model=_one_line(node.model), machine=_one_line(node.machine))
    yield f"# Planned with --policy {policy.value}. {_POLICIES[policy]}\n"
    yield _pair("replicas", num_nodes)
    yield _pair("model", model)
    yield "plan:\n"
    yield _pair("  totalBytes", total_bytes(node))
    yield _pair("  cpus", max(node.threads, 1))
    yield "settings:\n"
    for name, value in _settings(node).items():
        yield _pair(f"  APPLIANCE_{name}", str(value))


def total_bytes(node: NodeDescription) -> int:
    """Of RAM, with the prefixes that have left the KV cache."""
    return node.memory.total_bytes + node.host_bytes


def _settings(node: NodeDescription) -> dict[str, int | str]:
    """So that a server plans the same in its container: what is given is not chosen."""
    given: dict[str, int | str] = {
        "CTX": node.ctx,
        "SLOTS": node.slots,
        "KV_CELLS": node.kv_cells,
        "MAX_BATCH_ROWS": node.max_rows,
        "MAX_STALL_MS": node.max_stall_ms,
        "PREFIX_HOST_BYTES": node.host_bytes,
    }
    return {**given, "KV_TYPE": node.kv_type} if node.kv_type else given


def _pair(name: str, value: int | str) -> str:
    return f"{name}: {json.dumps(value, ensure_ascii=True)}\n"


def _one_line(text: str) -> str:
    """For a comment."""
    return " ".join(text.split())
