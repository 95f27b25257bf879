"""A real server on a loopback port, in the test's own event loop. Knows no endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.serving import Serve, servers


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Call it with an application; it returns the base URL."""
    async with servers() as start:
        yield start
