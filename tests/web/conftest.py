"""A browser and servers for it, in one event loop for all tests of the page.

Knows no view. Without Debian's chromium, or whatever of that name is in PATH, tests that
want it are skipped, and without playwright all that are not in `WITHOUT_BROWSER`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.api.serving import Serve, servers
from tests.web.browsers import chromium, options
from tests.web.visits import Visits

if TYPE_CHECKING:
    from playwright.async_api import Browser

WITHOUT_BROWSER = {"test_page_files.py", "test_vendored.py", "test_without_playwright.py"}


class _SkippedModule(pytest.Module):
    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        pytest.skip("needs playwright, which `pip install -e .[dev]` brings")


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    if module_path.name in WITHOUT_BROWSER or find_spec("playwright") is not None:
        return None
    skipped: _SkippedModule = _SkippedModule.from_parent(parent, path=module_path)
    return skipped


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    from playwright.async_api import async_playwright

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
async def visits(browser: Browser, serve_page: Serve) -> AsyncIterator[Visits]:
    """Fails a test whose page broke its policy, raised, printed, or asked anybody else. Its
    windows are closed before `serve_page` ends, which they would go on to ask.
    """
    made = Visits(browser)
    yield made
    await made.close()
    assert made.faults == []
