"""`appliance fleet plan --k8s`: values that the chart takes, and a server its settings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from appliance.errors import BadSettings
from appliance.fleet.kubernetes import helm_values, total_bytes
from appliance.fleet.routing import Policy
from appliance.protocol.measured_node import NodeDescription, NodeMemory
from appliance.settings import ServeSettings
from tests.deploy.charts import CHART, lint, objects_in, rendered
from tests.fleet.nodes import linear_node

MIB = 1 << 20
NODE = msgspec.structs.replace(
    linear_node().node,
    model='a "model":\nQ4',  # which no name should be, but a file may
    threads=4,
    kv_type="q8_0",
    host_bytes=100 * MIB,
    memory=NodeMemory(total_bytes=900 * MIB, weights_bytes=500 * MIB, kv_bytes=200 * MIB),
)


def values(node: NodeDescription = NODE, policy: Policy = Policy.PREFIX) -> dict[str, Any]:
    text = helm_values(node, num_nodes=3, model="qwen3-4b", policy=policy)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_they_are_the_plans_replicas_memory_and_settings() -> None:
    assert total_bytes(NODE) == 1000 * MIB
    assert values() == {
        "replicas": 3,
        "model": "qwen3-4b",
        "plan": {"totalBytes": 1000 * MIB, "cpus": 4},
        "settings": {
            "APPLIANCE_CTX": "4096",
            "APPLIANCE_SLOTS": "4",
            "APPLIANCE_KV_CELLS": "16384",
            "APPLIANCE_MAX_BATCH_ROWS": "256",
            "APPLIANCE_MAX_STALL_MS": "250",
            "APPLIANCE_PREFIX_HOST_BYTES": str(100 * MIB),
            "APPLIANCE_KV_TYPE": "q8_0",
        },
    }


@pytest.mark.parametrize("policy", list(Policy))
def test_the_chart_and_the_server_know_every_name(policy: Policy) -> None:
    [known] = objects_in(CHART / "values.yaml")
    found = values(policy=policy)
    assert set(found) <= set(known)
    assert set(found["plan"]) <= set(known["plan"])
    names = {name.removeprefix("APPLIANCE_").lower() for name in found["settings"]}
    assert names <= set(ServeSettings.__dataclass_fields__)


def test_what_helm_makes_of_them_has_that_memory_and_says_so() -> None:
    given = {**values(), "apiKeys": {"existingSecret": "appliance-keys"}}
    assert lint(given) == []
    [server] = [each for each in rendered(given) if each["kind"] == "StatefulSet"]
    [container] = server["spec"]["template"]["spec"]["containers"]
    assert server["spec"]["replicas"] == 3
    # a twentieth more, which a plan leaves free under a limit
    assert container["resources"]["limits"] == {"cpu": "4", "memory": "1053Mi"}
    assert {"name": "APPLIANCE_CTX", "value": "4096"} in container["env"]


def test_a_node_of_an_earlier_version_says_no_memory() -> None:
    with pytest.raises(BadSettings, match=r"Serve it once with this version"):
        values(linear_node().node)
