"""What a first visit loads, by the browser's own account, and that it paints."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from appliance.api.app import create_app
from appliance.web.files import PAGE, page_files
from tests.api.serving import Serve
from tests.web.first_paint import LOADED, PAINTS
from tests.web.machine_house import MachineHouse
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")
MOST_BYTES = 500_000
# Browsers load the icon when they like, and tell of it or not.
FILES = {f"/web/{path}": len(file.data) for path, file in page_files().items()}
EXPECTED = {"/": FILES.pop(f"/web/{PAGE}"), **FILES}
del EXPECTED["/web/icon.svg"]


async def test_a_visit_loads_these_bytes_and_no_others(visits: Visits, serve_page: Serve) -> None:
    page = await visits.open(serve_page(create_app(MachineHouse().gateway())))
    await expect(page.get_by_role("combobox", name="Model")).to_have_value("novels")
    loaded = dict(await page.evaluate(LOADED))
    assert loaded.pop("/v1/models") > 0
    loaded.pop("/web/icon.svg", None)
    assert loaded == EXPECTED
    assert sum(loaded.values()) < MOST_BYTES


async def test_a_visit_paints(visits: Visits, serve_page: Serve) -> None:
    page = await visits.open(serve_page(create_app(MachineHouse().gateway())))
    await expect(page.get_by_role("combobox", name="Model")).to_have_value("novels")
    assert [*await page.evaluate(PAINTS)] == ["first-paint", "first-contentful-paint"]
