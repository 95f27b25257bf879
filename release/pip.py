"""pip as a program: how it is called here, and what becomes of its failures.

Knows no package.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from release.target import NotMade

BUILD_TOOLS = Path(__file__).with_name("build_tools.txt")


def run_pip(arguments: Sequence[str], environment: Mapping[str, str] = {}) -> None:
    """Raises `NotMade`; what pip said is on the terminal by then."""
    # builds take the pinned tools; since pip 25.3 by a variable of their own
    tools = {"PIP_CONSTRAINT": str(BUILD_TOOLS), "PIP_BUILD_CONSTRAINT": str(BUILD_TOOLS)}
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, env={**os.environ, **tools, **environment}, check=False)
    if done.returncode != 0:
        raise NotMade(f"pip {arguments[0]} failed")
