"""The Kubernetes objects: what the chart makes, and the same as one file for who has no Helm."""

from __future__ import annotations

import re
from typing import Any

import pytest

from appliance import __version__
from appliance.cli.dispatch import build_parser
from appliance.settings import ServeSettings
from tests.conftest import ROOT
from tests.deploy.charts import CHART, RenderFailed, lint, objects_in, rendered

MANIFEST = ROOT / "deploy" / "kubernetes" / "appliance.yaml"
KEYS = {"apiKeys": {"existingSecret": "appliance-keys"}}
MANY = {
    "replicas": 1,
    "apiKeys": {"keys": ["ak-1", "ak-2"]},
    "plan": {"totalBytes": 241_056_398, "cpus": 2},
    "model": "qwen3-4b",
    "settings": {"APPLIANCE_CTX": 8192},
    "allowedHosts": ["llm.example.org"],
    "args": ["--slots", "4"],
    "state": {"storageClassName": "fast"},
}
CONTAINERFILE = (ROOT / "release" / "container" / "Containerfile").read_text(encoding="utf-8")


def of_kind(kind: str, objects: list[dict[str, Any]]) -> list[Any]:
    return [each for each in objects if each["kind"] == kind]


def pod_of(objects: list[dict[str, Any]]) -> Any:
    [found] = of_kind("StatefulSet", objects)
    return found["spec"]["template"]["spec"]


def assert_agrees(objects: list[dict[str, Any]]) -> None:
    """What Kubernetes does not check, and would fail over only when it runs."""
    [server] = of_kind("StatefulSet", objects)
    spec, pod = server["spec"], pod_of(objects)
    [container] = pod["containers"]
    labels = spec["template"]["metadata"]["labels"]
    for selector in (
        spec["selector"]["matchLabels"],
        *(service["spec"]["selector"] for service in of_kind("Service", objects)),
        *(b["spec"]["selector"]["matchLabels"] for b in of_kind("PodDisruptionBudget", objects)),
    ):
        assert selector.items() <= labels.items()
    names = {service["metadata"]["name"] for service in of_kind("Service", objects)}
    assert names == {"appliance", "appliance-each"}
    assert spec["serviceName"] == "appliance-each"
    volumes = {each["name"] for each in pod["volumes"]}
    volumes |= {each["metadata"]["name"] for each in spec["volumeClaimTemplates"]}
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert set(mounts) == volumes
    assert {"/models", "/state", "/tmp"} <= set(mounts.values())
    arguments = build_parser().parse_args(container["args"])
    grace_s = pod["terminationGracePeriodSeconds"]
    assert grace_s >= float(arguments.drain_delay_s) + float(arguments.drain_s) + 15
    # a Service called `appliance` would set APPLIANCE_PORT=tcp://...
    assert pod["enableServiceLinks"] is False


def test_the_manifest_is_what_the_chart_makes() -> None:
    assert objects_in(MANIFEST) == rendered(KEYS)


def test_the_manifests_parts_agree() -> None:
    assert_agrees(objects_in(MANIFEST))


def test_it_runs_as_the_images_user_and_may_nothing() -> None:
    pod = pod_of(objects_in(MANIFEST))
    uid = int(re.findall(r"^USER (\d+):\1$", CONTAINERFILE, re.MULTILINE)[0])
    rights = pod["securityContext"]
    assert rights["runAsNonRoot"]
    assert (rights["runAsUser"], rights["runAsGroup"], rights["fsGroup"]) == (uid, uid, uid)
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False


def test_its_probes_ask_what_answers() -> None:
    [container] = pod_of(objects_in(MANIFEST))["containers"]
    asked = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "readiness", "liveness")
    }
    # a worker that is started again makes /health 503, and is no reason to kill the rest
    assert asked == {"startup": "/health", "readiness": "/health", "liveness": "/"}
    [port] = container["ports"]
    assert f"EXPOSE {port['containerPort']}" in CONTAINERFILE
    assert port["containerPort"] == ServeSettings.__dataclass_fields__["port"].default


@pytest.mark.parametrize("values", [KEYS, MANY, {"apiKeys": {"insecure": True}}])
def test_helm_finds_nothing_against_the_chart(values: dict[str, Any]) -> None:
    assert lint(values) == []
    assert_agrees(rendered(values))


def test_its_resources_come_from_a_plan() -> None:
    objects = rendered(MANY)
    [container] = pod_of(objects)["containers"]
    # 229.9 MiB, and at least 32 that a plan leaves free
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "262Mi"}
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["env"] == [{"name": "APPLIANCE_CTX", "value": "8192"}]
    [secret] = of_kind("Secret", objects)
    assert secret["stringData"] == {"api-keys": "ak-1\nak-2\n"}
    assert of_kind("PodDisruptionBudget", objects) == []


def test_without_keys_nothing_is_made_unless_that_is_said() -> None:
    with pytest.raises(RenderFailed, match=r"No API keys: set apiKeys\.existingSecret"):
        rendered({})


@pytest.mark.parametrize("version", ["1.28"])
def test_kubernetes_own_schemas_take_it(version: str) -> None:
    schemas: Any = pytest.importorskip(
        "kubernetes_validate", reason="needs `pip install kubernetes-validate`"
    )
    for each in objects_in(MANIFEST):
        schemas.validate(each, version, strict=True)


def test_the_chart_is_of_this_version() -> None:
    [chart] = objects_in(CHART / "Chart.yaml")
    assert chart["appVersion"] == __version__
