"""The machine's view: plan, slots, numbers, and models loaded and unloaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from appliance.api.app import create_app
from tests.api.serving import Serve
from tests.fit.machines import write_machine
from tests.web.machine_house import MachineHouse
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def open_machine(visits: Visits, serve: Serve, house: MachineHouse) -> Page:
    url = serve(create_app(house.gateway()))
    page = await visits.open(url)
    await page.get_by_role("link", name="Machine").click()
    return page


async def test_the_plan_is_a_picture_and_says_why(visits: Visits, serve_page: Serve) -> None:
    page = await open_machine(visits, serve_page, MachineHouse())
    card = page.get_by_role("region", name="novels", exact=True)
    await expect(card).to_contain_text("Q4_1, context 2048, 8192 cells of q8_0, 4 slots")
    picture = card.get_by_role("img")
    await expect(picture).to_have_attribute("aria-label", "Predicted 300 MiB")
    rects = await picture.locator("rect").all()
    widths = [float(await each.get_attribute("width") or 0) for each in rects]
    assert widths == pytest.approx([2000 / 3, 1000 / 3])
    await expect(card).to_contain_text("KV cache 100 MiB")
    why = card.get_by_text("Q4_1 is the best that fits <b>here</b>.")
    await expect(why).to_be_hidden()
    await card.get_by_text("Why it is served like this").click()
    await expect(why).to_be_visible()
    # it is looked at again, and what was opened stays so
    async with page.expect_response("**/ps"):
        pass
    await expect(why).to_be_visible()


async def test_slots_show_how_far_they_are(visits: Visits, serve_page: Serve) -> None:
    page = await open_machine(visits, serve_page, MachineHouse())
    slots = page.get_by_role("list", name="Slots").get_by_role("listitem")
    await expect(slots).to_have_count(4)
    await expect(slots.nth(0)).to_contain_text("reads 1,500 of 2,000")
    await expect(slots.nth(1)).to_contain_text("idle")
    await expect(slots.nth(2)).to_contain_text("40 tokens written")
    bar = slots.nth(2).get_by_role("progressbar")
    assert await bar.evaluate("(bar) => [bar.value, bar.max]") == [40, 160]


async def test_a_model_is_unloaded_and_loaded(visits: Visits, serve_page: Serve) -> None:
    house = MachineHouse()
    page = await open_machine(visits, serve_page, house)
    await page.get_by_role("button", name="Unload novels").click()
    await page.get_by_role("dialog").get_by_role("button", name="Unload").click()
    await expect(page.get_by_role("region", name="novels", exact=True)).to_contain_text(
        "Not loaded."
    )
    await page.get_by_role("button", name="Load novels").click()
    await expect(page.get_by_role("button", name="Unload novels")).to_be_visible()
    assert house.stays[0] == 0
    assert house.stays[1] != 0


async def test_where_models_may_not_be_changed_the_page_says_so(
    visits: Visits, serve_page: Serve
) -> None:
    page = await open_machine(visits, serve_page, MachineHouse())
    form = page.get_by_role("region", name="Another model")
    await expect(form).to_contain_text("The models of this server do not change while it serves.")
    await expect(page.get_by_label("Repository")).to_be_hidden()


async def test_heat_is_shown_where_the_kernel_tells_it(
    visits: Visits, serve_page: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    files = {f"{zone}/type": "cpu-thermal", f"{zone}/temp": "71600"}
    monkeypatch.setattr("appliance.gateway.thermal.heat.ROOT", write_machine(tmp_path, files))
    page = await open_machine(visits, serve_page, MachineHouse())
    await expect(page.get_by_text("Heat: 72 °C (cpu-thermal)")).to_be_visible()
