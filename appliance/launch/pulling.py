"""`appliance pull` in a child process, so that a hub's client takes no memory of a server.

Knows no hub.
"""

from __future__ import annotations

import os
import subprocess
import sys

from appliance.errors import ApplianceError, BadSettings, NothingFits, PullFailed, SetupError
from appliance.launch.drafts import draft_settings, is_required
from appliance.launch.files import find_source
from appliance.settings import FIT_OPTIONS, ServeSettings, declared

_END_S = 5.0
_ERRORS: dict[int, type[SetupError]] = {
    error.exit_code: error for error in (BadSettings, NothingFits)
}


def pull_in_child(settings: ServeSettings) -> None:
    """Pulls the model that `settings` name; what is told of it goes to stderr.

    Raises `BadSettings` or `NothingFits` where `appliance pull` ends with their exit
    code, else `PullFailed`.
    """
    # Every option is given, so the child needs no file of settings: ours may be another
    # than it would find.
    command = [
        sys.executable,
        "-m",
        "appliance",
        "pull",
        *fit_flags(settings),
        "--config",
        os.devnull,
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno()) as process:
        try:
            exit_code = process.wait()
        except BaseException:
            _end(process)
            raise
    if exit_code != 0:
        error = _ERRORS.get(exit_code, PullFailed)
        raise error(
            f"{settings.first_model} could not be pulled (exit code {exit_code}); the "
            "lines above say why."
        )


def pull_what_is_missing(settings: ServeSettings) -> None:
    """The model that `settings` name and the one that drafts for it, if they are a
    hub's and not here.

    Raises what `pull_in_child` raises; not for a draft that was not named.
    """
    source = find_source(settings)
    if source.must_be_pulled:
        pull_in_child(settings)
    wanted = draft_settings(settings, source)
    if wanted is None or not find_source(wanted).must_be_pulled:
        return
    try:
        pull_in_child(wanted)
    except ApplianceError as error:
        if is_required(settings):
            raise
        print(f"--draft auto: {error.message}", file=sys.stderr)


def fit_flags(settings: ServeSettings) -> list[str]:
    """The options that decide what is fetched and converted, as flags of a command line."""
    flags: list[str] = []
    for entry in declared(ServeSettings):
        if entry.name in FIT_OPTIONS:
            value = getattr(settings, entry.name)
            if value == ():  # the default of what may be given several times
                continue
            text = _text(value)
            flags += [text] if entry.option.positional else [entry.flag, text]
    return flags


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return "auto" if value is None else str(value)


def _end(process: subprocess.Popen[bytes]) -> None:
    """What has arrived is kept."""
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
