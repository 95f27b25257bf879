"""`appliance top`: what `ps` shows, drawn anew every second. Knows no figure of it."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from appliance.cli.ps import as_text
from appliance.cli.running_server import RunningServer
from appliance.errors import BadSettings
from appliance.settings import ServeSettings

_PERIOD_S = 1.0
_ENDED_BY = "Ctrl-C ends."


def run(settings: ServeSettings) -> int:
    """Until Ctrl-C. Raises `ApplianceError` where no server answers, or none any more."""
    if not sys.stdout.isatty():
        raise BadSettings("top needs a terminal. 'appliance ps --json' is for programs.")
    server = RunningServer.of(settings)
    first = server.processes()  # before the screen changes: an error stays to be read
    console = Console(highlight=False)
    try:
        with Live(_drawn(first), console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(_drawn(server.processes()), refresh=True)
                time.sleep(_PERIOD_S)
    except KeyboardInterrupt:
        return 0


def _drawn(report: dict[str, object]) -> Text:
    """What is wider than the terminal is cut off: it would push the rest out of sight."""
    text = f"{time.strftime('%H:%M:%S')}  {_ENDED_BY}\n\n{as_text(report)}"
    return Text(text, no_wrap=True, overflow="ellipsis")
