"""The Grafana dashboard: that it loads, and names only metrics and labels that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.paced_client import PacedClient, gateway_of

ROOT = Path(__file__).parents[1]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "grafana" / "appliance.json").read_text())
GUIDE = (ROOT / "docs" / "guide" / "metrics.md").read_text()
SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (
        variable["query"]["query"]
        for variable in DASHBOARD["templating"]["list"]
        if variable["type"] == "query"
    )


def labels_by_series() -> dict[str, set[str]]:
    """Of the metrics that are rendered, with the labels that the guide names."""
    gateway, _ = gateway_of(PacedClient())
    documented = dict(re.findall(r"^\| `(\w+)` \| \w+ \|([^|]*)\|", GUIDE, re.MULTILINE))
    found = {}
    for family in text_string_to_metric_families(gateway.metrics.render().decode()):
        if family.name.endswith("_created"):
            continue
        named = documented[family.name + ("_total" if family.type == "counter" else "")]
        labels = set(re.findall(r"\w+", named)) | ({"le"} if family.type == "histogram" else set())
        found.update({family.name + suffix: labels for suffix in SUFFIXES[family.type]})
    return found


def test_it_names_only_metrics_and_labels_that_exist() -> None:
    known = labels_by_series()
    for expression in expressions():
        series = set(re.findall(r"\bappliance_\w+", expression))
        assert series
        assert series <= known.keys(), expression
        labels = set(re.findall(r"(\w+)=", expression))
        for group in re.findall(r"by \(([^)]*)\)", expression):
            labels |= set(re.findall(r"\w+", group))
        for name in series:
            assert labels <= known[name], f"{name}: {expression}"


def test_every_panel_has_a_place_of_its_own_and_a_meaning() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 15
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        places = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not places & taken, panel["title"]
        taken |= places
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("key", ["title", "uid", "schemaVersion", "time", "templating"])
def test_grafana_needs_it_to_import_the_file(key: str) -> None:
    assert DASHBOARD[key]
