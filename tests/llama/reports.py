"""Runs the children of this folder that print a report. Knows none of them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PROMPTS = [f"Once upon a time there were {count} ships" for count in range(12)]


def report_of(module: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", f"tests.llama.{module}", *map(str, arguments)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    report: dict[str, Any] = json.loads(child.stdout)
    return report
