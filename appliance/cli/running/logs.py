"""`appliance logs`: what a server says, from where it was written.

Knows no line of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

from appliance.errors import ApplianceError
from appliance.settings import ServeSettings

OWN_LOG_NAME = "own-server.log"  # below --state-dir: of servers that `chat` and `run` start
_UNIT = "appliance"
_LAUNCHD_LOG = Path("Library/Logs/appliance.log")  # below the home folder


def run(settings: ServeSettings, *, own: bool, num_lines: int, follows: bool) -> NoReturn:
    """Becomes the program that shows it. Raises `ApplianceError` where there is no log."""
    command = _command(settings.state_dir / OWN_LOG_NAME, own=own)
    command += ["-n", str(num_lines), *(["-f"] if follows else [])]
    os.execvp(command[0], command)


def _command(own_log: Path, *, own: bool) -> list[str]:
    """The service's log if there is a service, else that of a server of a command's own."""
    if not own:
        if _has_unit():
            return ["journalctl", "--unit", _UNIT]
        launchd_log = Path.home() / _LAUNCHD_LOG
        if launchd_log.exists():
            return ["tail", str(launchd_log)]
    if own_log.exists():
        return ["tail", str(own_log)]
    raise ApplianceError(
        "There is no log: no service is installed, and no command has started a server of its own. "
        "A server that was started by hand writes to where it was started."
    )


def _has_unit() -> bool:
    if shutil.which("systemctl") is None or shutil.which("journalctl") is None:
        return False
    asked = ["systemctl", "show", _UNIT, "--property", "LoadState", "--value"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() == "loaded"
