"""`appliance stop`: has the running server end in good order.

Knows no service manager: ours do not start again what ended well.
"""

from __future__ import annotations

import psutil

from appliance.cli.running_server import RunningServer
from appliance.errors import ApplianceError
from appliance.settings import ServeSettings


def run(settings: ServeSettings) -> int:
    """Returns when it has ended, after the answers in progress or its --drain-s.

    Raises `ApplianceError` if no server of ours answers, it runs on another machine or is
    another user's.
    """
    server = RunningServer.of(settings)
    process = _process(server.processes()["server"]["pid"])
    try:
        process.terminate()
    except psutil.AccessDenied as error:
        raise ApplianceError(
            f"The server (process {process.pid}) is {process.username()}'s. Stop it as that user, "
            "or with 'sudo systemctl stop appliance' where it is the service."
        ) from error
    print("Stopping: answers in progress may end. Once more ends them at once.", flush=True)
    process.wait()
    print(f"The server on {server.address.words} has ended.")
    return 0


def _process(pid: int) -> psutil.Process:
    """Raises `ApplianceError` where it is not here, or something else has its number."""
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
    except psutil.NoSuchProcess:
        words = []
    except psutil.AccessDenied:
        return process  # `terminate` says whose it is
    if "serve" not in words:
        raise ApplianceError(
            f"The server says that it is process {pid}, and here that is none: it runs on another "
            "machine, or in a container."
        )
    return process
