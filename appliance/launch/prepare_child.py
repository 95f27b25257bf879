"""Pulls and converts a model in a child process, so that a server goes on meanwhile.

Knows no serving.

The child tells how it goes on stderr; what went wrong is one JSON record on stdout.

Usage: python -m appliance.launch.prepare_child MODEL [OPTIONS OF appliance pull]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from types import FrameType

from appliance.errors import ApplianceError, ErrorRecord, SetupError, from_record
from appliance.launch.files import prepare_model
from appliance.launch.pulling import fit_flags, pull_what_is_missing
from appliance.settings import FIT_OPTIONS, ServeSettings, add_flags, load

_END_S = 15.0  # it has to end children of its own


async def prepare_in_child(settings: ServeSettings) -> None:
    """Makes the files of the one model that `settings` name ready.

    Cancelling ends it, and keeps what has arrived.

    Raises what `prepare_model` and `pull_in_child` raise.
    """
    # Every option is given, so the child needs no file of settings: ours may be another
    # than it would find.
    command = ["-m", "appliance.launch.prepare_child", *fit_flags(settings), "--config", os.devnull]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # a terminal's Ctrl-C is for the server, which then ends this
    )
    try:
        told, _ = await process.communicate()
    except BaseException:
        await _end(process)
        raise
    if process.returncode != 0:
        raise _error(told, process.returncode)


async def _end(process: asyncio.subprocess.Process) -> None:
    """With all that it has started: they are one process group, whose number is the first one's."""
    _signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(process.wait(), _END_S)
    _signal_group(process.pid, signal.SIGKILL)
    await process.wait()


def _signal_group(number: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of them have ended
        os.killpg(number, what)


def _error(told: bytes, status: int | None) -> ApplianceError:
    try:
        return from_record(ErrorRecord(**json.loads(told)))
    except (ValueError, TypeError):
        return SetupError(
            f"Its files could not be prepared (exit code {status}); the lines above say why."
        )


def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, _stop)
    parser = argparse.ArgumentParser()
    add_flags(parser, ServeSettings, FIT_OPTIONS)
    try:
        settings = load(ServeSettings, vars(parser.parse_args(argv)), os.environ)
        pull_what_is_missing(settings)
        prepare_model(settings)
    except ApplianceError as error:
        print(json.dumps(asdict(error.record())))
        return error.exit_code
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    """Leaves through every `finally`, so that children are ended too."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
