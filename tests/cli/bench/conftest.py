"""Fixtures for servers to be measured."""

from __future__ import annotations

from tests.cli.network.conftest import listen

__all__ = ["listen"]
