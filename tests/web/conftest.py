"""A browser and servers for it, in one event loop for all tests of the page.

Knows no view. Without Debian's chromium, or whatever of that name is in PATH, tests that
want it are skipped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.api.serving import Serve, servers
from tests.web.browsers import chromium, options
from tests.web.visits import Visits


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    executable = chromium()
    if executable is None:
        pytest.skip("needs the command chromium, which `apt-get install chromium` brings")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=executable, args=options())
        yield started
        await started.close()


@pytest_asyncio.fixture(loop_scope="session")
async def serve_page() -> AsyncIterator[Serve]:
    async with servers() as start:
        yield start


@pytest_asyncio.fixture(loop_scope="session")
async def visits(browser: Browser) -> AsyncIterator[Visits]:
    """Fails a test whose page broke its policy, raised, or asked anybody else."""
    made = Visits(browser)
    yield made
    await made.close()
    assert made.faults == []
