"""Servers of our own to be scanned: one that keys open, and one that is open to this machine.

Knows how they are started, and nothing of what is sent to them.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.scan.requests import GUESS, Keys, Who
from tests.scan.rules import Rules
from tests.serve.server import Server, environment, free_port

TIMEOUT_S = 2.0  # for a head or a body
MODEL = "novels-6m"
_REPOSITORY = Path(__file__).parents[2]
_NAMES = {
    Who.HOLDER: "holder-of-one",
    Who.OTHER: "holder-of-another",
    Who.ADMIN: "administrator-of-all",
}


@dataclass(frozen=True)
class Scanned:
    server: Server
    keys: Keys
    rules: Rules


@contextlib.contextmanager
def keyed(home: Path, folder: Path) -> Iterator[Scanned]:
    """Its model is in `home`; its state below `folder`."""
    state = folder / "state"
    keys = {
        who: _created(name, state, home, *(["--admin"] if who is Who.ADMIN else []))
        for who, name in _NAMES.items()
    }
    with _serving(home, folder, "--state-dir", str(state)) as server:
        rules = Rules(
            needs_key=True,
            secrets=(*_paths(home, folder), *keys.values(), GUESS),
            names={who: name.encode() for who, name in _NAMES.items()},
        )
        yield Scanned(server, Keys(keys), rules)


@contextlib.contextmanager
def unlocked(home: Path, folder: Path) -> Iterator[Scanned]:
    state = folder / "state"
    with _serving(home, folder, "--state-dir", str(state)) as server:
        rules = Rules(needs_key=False, secrets=_paths(home, folder), checks_names=True)
        yield Scanned(server, Keys(), rules)


def _paths(home: Path, folder: Path) -> tuple[bytes, ...]:
    paths = (home, folder, _REPOSITORY, Path(sys.prefix))
    return tuple(str(path).encode() for path in paths)


def _created(name: str, state: Path, home: Path, *flags: str) -> bytes:
    command = [sys.executable, "-m", "appliance", "keys", "create", name, *flags]
    done = subprocess.run(
        [*command, "--state-dir", str(state)],
        env=environment(home),
        check=True,
        capture_output=True,
    )
    return done.stdout.strip()


@contextlib.contextmanager
def _serving(home: Path, folder: Path, *flags: str) -> Iterator[Server]:
    for each in (home, folder):
        each.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "appliance", "serve", MODEL, "--no-tune"]
    command += ["--port", str(port), "--client-timeout-s", str(TIMEOUT_S), *flags]
    server = Server(command, port, environment(home), folder)
    try:
        server.await_line(" ready: ")
        yield server
    finally:
        server.end()
