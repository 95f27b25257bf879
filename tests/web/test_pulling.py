"""Another model on the machine's view: what fits, what it would bring, fetched and given up."""

from __future__ import annotations

import pytest
from playwright.async_api import Locator, Page, expect

from appliance.api.app import create_app
from tests.api.scripted_library import LARGE, NAME, ScriptedLibrary
from tests.api.serving import Serve
from tests.web.machine_house import MachineHouse
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def open_with(visits: Visits, serve: Serve, library: ScriptedLibrary) -> tuple[Page, Locator]:
    url = serve(create_app(MachineHouse().gateway(library=library)))
    page = await visits.open(f"{url}/#/machine")
    return page, page.get_by_role("region", name="Another model")


async def test_what_fits_is_chosen_and_told_before_it_is_fetched(
    visits: Visits, serve_page: Serve
) -> None:
    library = ScriptedLibrary()
    page, card = await open_with(visits, serve_page, library)
    await card.get_by_text("1 of 2 known models fit in the 2.00 GiB").click()
    await expect(card.get_by_role("row").nth(1)).to_contain_text("200 MiB")
    await expect(card.get_by_role("rowheader", name=LARGE)).to_have_count(0)
    await page.get_by_role("button", name=f"Choose {NAME}").click()
    await expect(card).to_contain_text("4 slots: 700 MiB of memory, at most 200 MiB to fetch")
    await expect(card).to_contain_text("Q8_0 is the best that fits <b>here</b>.")
    await expect(card).to_contain_text("There are: Q4_K_M 120 MiB, Q8_0 200 MiB.")
    assert library.pulled == []
    await card.get_by_role("button", name="Fetch 200 MiB").click()
    await expect(card).to_contain_text("100 MiB of 200 MiB")
    bar = card.get_by_role("progressbar")
    assert await bar.evaluate("(bar) => bar.value / bar.max") == 0.5
    library.gate.set()
    await expect(card).to_contain_text("It is here, and is served.")
    assert library.pulled == [NAME]


async def test_where_nothing_fits_nothing_is_fetched(visits: Visits, serve_page: Serve) -> None:
    page, card = await open_with(visits, serve_page, ScriptedLibrary())
    await page.get_by_label("Repository").fill("org/large")
    await page.get_by_label("Repository").press("Enter")
    await expect(card).to_contain_text("Nothing fits: 9 GiB are needed")
    await expect(card.get_by_role("button", name="Fetch")).to_have_count(0)


async def test_a_pull_is_given_up(visits: Visits, serve_page: Serve) -> None:
    page, card = await open_with(visits, serve_page, ScriptedLibrary())
    await page.get_by_label("Repository").fill(NAME)
    await card.get_by_role("button", name="Look").click()
    await card.get_by_role("button", name="Fetch").click()
    await expect(card).to_contain_text("100 MiB of 200 MiB")
    await card.get_by_role("button", name="Cancel").click()
    await expect(card).to_contain_text("Cancelled. What has arrived is kept.")
    await expect(card.get_by_role("button", name="Fetch")).to_be_enabled()


async def test_where_models_do_not_change_there_is_nothing_to_type(
    visits: Visits, serve_page: Serve
) -> None:
    page, card = await open_with(visits, serve_page, ScriptedLibrary(may_pull=False))
    await expect(card).to_contain_text("--model-changes on")
    await expect(page.get_by_label("Repository")).to_be_hidden()
    await card.get_by_text("1 of 2 known models fit").click()
    await expect(card.get_by_role("button", name="Choose")).to_have_count(0)
