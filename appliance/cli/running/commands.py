"""`top`, `stop` and `logs` as entries of the table of commands, with their flags, and the
options by which commands find the running server.

Knows nothing of their work.
"""

from __future__ import annotations

import argparse

from appliance.cli.command import Command
from appliance.settings import ServeSettings

REACHED_BY = ("host", "port", "api_key_file", "tls_cert")


def _stop(settings: ServeSettings, _args: argparse.Namespace) -> int:
    from appliance.cli.running import stop

    return stop.run(settings)


def _top(settings: ServeSettings, _args: argparse.Namespace) -> int:
    from appliance.cli.running import top

    return top.run(settings)


def _logs(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli.running import logs

    logs.run(settings, own=args.own, num_lines=args.lines, follows=args.follow)


def _logs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--own",
        action="store_true",
        help="The log of servers that `chat` and `run` started, also where there is a service",
    )
    parser.add_argument(
        "-n",
        "--lines",
        type=int,
        default=100,
        metavar="LINES",
        help="How many of the last lines (default: 100)",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="Go on with what is added")


RUNNING_COMMANDS = (
    Command(
        name="top",
        summary="Watch what a running server does",
        description="Shows what `ps` shows, every second, until Ctrl-C. Exit code 1: no server "
        "answers, or none any more.",
        run=_top,
        options=REACHED_BY,
    ),
    Command(
        name="stop",
        summary="End the running server in good order",
        description="Asks the server at --host and --port which process it is, ends it as SIGTERM "
        "does, and waits: answers in progress may end within its --drain-s. A second `stop` ends "
        "them at once. Exit code 1: no server answers, or it is another user's or machine's.",
        run=_stop,
        options=REACHED_BY,
    ),
    Command(
        name="logs",
        summary="Show the log of the service, or of servers that commands started",
        description="Shows the journal of the systemd unit `appliance`, the launchd agent's log on "
        "macOS, or else own-server.log in --state-dir. Exit code 1: there is none.",
        run=_logs,
        options=("state_dir",),
        add_arguments=_logs_arguments,
    ),
)
