"""Which server answers, and with which model: one that runs, or one of our own.

Knows nothing of what it is asked.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from appliance.cli.catalog.auto import with_auto
from appliance.cli.chat.own_server import own_server
from appliance.cli.running.commands import REACHED_BY
from appliance.cli.running.logs import OWN_LOG_NAME
from appliance.cli.running_server import RunningServer
from appliance.errors import BadSettings
from appliance.settings import ServeSettings, declared

_SPINNER_WIDTH = 3


@dataclass(frozen=True, kw_only=True)
class Found:
    server: RunningServer
    model: str
    where: str  # for people


@contextlib.contextmanager
def found_server(settings: ServeSettings, args: argparse.Namespace) -> Iterator[Found]:
    """What `args` say: a URL, a model, both or nothing.

    Raises `ApplianceError` where the server refuses, or none can be started.
    """
    model: str | None = vars(args).get("model")
    if args.url is not None:
        yield _found(RunningServer.at(args.url, settings), model)
        return
    running = RunningServer.of(settings)
    if running.is_there():
        if model is None or running.has(model):
            yield _found(running, model)
            return
        print(
            f"The server on {running.address.words} has no model {model!r}: starting another one.",
            file=sys.stderr,
        )
    with _started(settings, vars(args), model) as found:
        yield found


def _found(server: RunningServer, model: str | None) -> Found:
    return Found(server=server, model=model or server.models()[0], where=server.address.words)


@contextlib.contextmanager
def _started(
    settings: ServeSettings, given: Mapping[str, object], model: str | None
) -> Iterator[Found]:
    if settings.tls_cert is not None:
        raise BadSettings(
            "No server answers, and with --tls-cert none is started for one command. Start it with "
            "'appliance serve'."
        )
    console = Console(stderr=True, highlight=False)
    chosen = with_auto(settings, lambda line: print(line, file=sys.stderr))
    if chosen is not settings:
        [model] = chosen.model
        given = {**given, "model": model}
    words = f"Starting a server for {Path(model).name}" if model else "Starting a server"
    log = settings.state_dir / OWN_LOG_NAME
    with contextlib.ExitStack() as stack:
        with console.status(words) as status:

            def show(line: str) -> None:
                text = Text(words)
                text.append(f"  {line}", style="dim")
                text.truncate(console.width - _SPINNER_WIDTH, overflow="ellipsis")
                status.update(text)

            # a first answer at once is worth more here than a measurement for later
            flags = [*given_flags(given), "--no-tune"]
            server = stack.enter_context(own_server(flags, log, show))
            name = server.models()[0]
        yield Found(server=server, model=name, where="a server of its own")


def given_flags(given: Mapping[str, object]) -> list[str]:
    """What the user typed, for `serve`; the rest it finds where this process did."""
    flags: list[str] = []
    for entry in declared(ServeSettings):
        value = given.get(entry.name)
        if value is None or entry.name in REACHED_BY:
            continue
        if entry.option.positional:
            flags.append(str(value))
        elif entry.option.switch:
            flags.append(entry.flag)
        else:
            values = value if isinstance(value, list) else [value]
            flags += [word for each in values for word in (entry.flag, str(each))]
    if "config" in given:
        flags += ["--config", str(given["config"])]
    return flags
