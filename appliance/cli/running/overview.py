"""`appliance` alone: what runs, and what can be done next.

Knows no process and no model itself.
"""

from __future__ import annotations

from appliance.cli.ps import as_text
from appliance.cli.running_server import RunningServer
from appliance.errors import ApplianceError
from appliance.loopback import socket_path
from appliance.settings import ServeSettings

_WITHOUT = (
    ("appliance chat", "talk with a model in the terminal"),
    ("appliance serve", "serve it to other programs"),
    ("appliance list", "the models on this machine"),
    ("appliance doctor", "whether this machine is set up well"),
)
_BESIDE = (
    ("appliance chat", "talk with it in the terminal"),
    ("appliance launch", "coding agents and other programs that can use it"),
    ("appliance stop", "end it in good order"),
    ("appliance logs", "what it says"),
)


def run(settings: ServeSettings) -> int:
    """Where no server answers as it should, that is said and no failure.

    Raises `BadSettings` where the file of keys cannot be read.
    """
    server = RunningServer.of(settings)
    words = server.address.words
    if not server.is_there():
        print(f"No server runs on {words}.")
        print(_next(_WITHOUT))
        return 0
    try:
        report = server.processes()
    except ApplianceError as error:
        print(f"A server runs on {words}, but tells nothing: {error.message}")
        print(_next(_WITHOUT))
        return 0
    print(f"A server runs on {words}.{_addresses(server)}\n")
    print(as_text(report))
    print(_next(_BESIDE))
    return 0


def _addresses(server: RunningServer) -> str:
    if socket_path(server.address.host) is not None:
        return ""
    return f" For OpenAI's and Anthropic's clients: {server.url}/v1; Ollama's: {server.url}"


def _next(commands: tuple[tuple[str, str], ...]) -> str:
    rows = (*commands, ("appliance --help", "all commands"))
    width = max(len(command) for command, _ in rows)
    return "\n".join(["", *(f"  {command.ljust(width)}  {meaning}" for command, meaning in rows)])
