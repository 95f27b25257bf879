"""Fixtures for commands that a person talks to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.chat.terminal import StartTerminal, Terminal
from tests.serve.server import environment


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[StartTerminal]:
    """Runs `appliance` with the given words in a terminal of its own."""
    started: list[Terminal] = []

    def start(*words: str) -> Terminal:
        started.append(Terminal(words, environment(tmp_path)))
        return started[-1]

    yield start
    for each in started:
        each.end()
