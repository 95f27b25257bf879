"""Reads metrics back from the text that Prometheus would get."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from appliance.gateway.telemetry.metrics import Metrics


def values(metrics: Metrics, name: str) -> dict[str, float]:
    """The samples called `name`, by their labels' values in the order of the labels'
    names, with commas between.
    """
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        ",".join(value for _, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }
