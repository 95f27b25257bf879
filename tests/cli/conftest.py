"""Fixtures for commands that ask a running server."""

from __future__ import annotations

from tests.api.conftest import serve

__all__ = ["serve"]
