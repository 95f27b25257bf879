"""Fixtures for commands beside a running server."""

from __future__ import annotations

from tests.cli.chat.conftest import terminal
from tests.serve.conftest import home, start_server

__all__ = ["home", "start_server", "terminal"]
