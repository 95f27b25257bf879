"""Who used what, as the page shows it."""

from __future__ import annotations

import httpx
import pytest
from playwright.async_api import expect

from appliance.api.app import create_app
from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.gateway.usage.log import UsageLog
from appliance.gateway.usage.report import Prices
from appliance.gateway.usage.rows import UsageFile
from appliance.gateway.usage.tables import MIGRATIONS
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around
from tests.api.serving import Serve
from tests.web.machine_house import MachineHouse
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_server_that_keeps_no_usage_says_so(visits: Visits, serve_page: Serve) -> None:
    page = await visits.open(serve_page(create_app(MachineHouse().gateway())))
    await page.get_by_role("link", name="Usage").click()
    await expect(page.get_by_role("alert")).to_have_text("This server keeps no usage.")
    await expect(page.get_by_role("table")).to_have_count(0)


async def test_usage_is_a_table_by_key_with_its_total(visits: Visits, serve_page: Serve) -> None:
    usage = UsageLog(
        UsageFile(Database(None, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)),
        prices=Prices(price_per_hour=1.0),
    )
    url = serve_page(create_app(gateway_around(ScriptedClient(*ANSWER), usage=usage)))
    async with httpx.AsyncClient(base_url=url) as http:
        for _ in range(2):
            (await http.post("/v1/completions", json={"prompt": "Once"})).raise_for_status()
    page = await visits.open(f"{url}/#/usage")
    rows = page.get_by_role("row")
    await expect(rows).to_have_count(3)  # names, one key, all
    await expect(rows.nth(2)).to_contain_text("all")
    cells = await rows.nth(2).get_by_role("cell").all_inner_texts()
    assert cells[:5] == ["2", "0", "10", "4", "10"]
    await page.get_by_label("Grouped").select_option("model")
    await expect(page.get_by_role("rowheader", name="novels")).to_be_visible()
    await usage.close()
