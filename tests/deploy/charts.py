"""Renders the Helm chart, with Helm itself or with its library for Python.

Knows no values.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

CHART = ROOT / "deploy" / "helm" / "appliance"
NEEDS = "needs helm, or `pip install helm-python-sdk`, and neither is here"


class RenderFailed(Exception):
    """With what Helm says."""


def lint(values: dict[str, Any]) -> list[str]:
    """What Helm says against the chart, recommendations left out. Skips where no Helm is."""
    if shutil.which("helm") is None:
        library: Any = pytest.importorskip("helm_python", reason=NEEDS)
        found = library.lint(str(CHART), values, strict=True)
        return [message["error"] for message in found["messages"] if message["severity"] > 1]
    command = ["helm", "lint", "--strict", "--quiet", "--values", "-", str(CHART)]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True)
    return [] if done.returncode == 0 else [done.stdout + done.stderr]


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of a release called "appliance". Raises `RenderFailed`; skips where
    no Helm is.
    """
    if shutil.which("helm") is None:
        library: Any = pytest.importorskip("helm_python", reason=NEEDS)
        try:
            with library.Chart.load(str(CHART)) as chart:
                texts = chart.render(values, name="appliance", namespace="default")
        except library.HelmError as error:
            raise RenderFailed(str(error)) from error
        return objects("\n---\n".join(texts[name] for name in sorted(texts)))
    command = ["helm", "template", "appliance", str(CHART), "--values", "-"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True)
    if done.returncode != 0:
        raise RenderFailed(done.stderr)
    return objects(done.stdout)


def objects(text: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(text) if each is not None]


def objects_in(path: Path) -> list[dict[str, Any]]:
    return objects(path.read_text(encoding="utf-8"))
