"""Keys on the page: made, shown once, changed, rotated and revoked, and whose sees what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.api.keys_house import KeysHouse
from tests.api.serving import Serve
from tests.web.keys_house import open_keys
from tests.web.visits import Visits

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def house(tmp_path: Path) -> AsyncIterator[KeysHouse]:
    house = KeysHouse(tmp_path)
    await house.prepare()
    yield house
    await house.close()


async def status_with(house: KeysHouse, key: str) -> int:
    return (await house.send("GET", "/v1/models", name=key)).status_code


def key_card(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=f"Key {name}", exact=True)


def in_dialog(page: Page, button: str) -> Locator:
    return page.get_by_role("dialog").get_by_role("button", name=button, exact=True)


async def test_a_key_is_made_shown_once_and_used(
    visits: Visits, serve_page: Serve, house: KeysHouse
) -> None:
    page = await open_keys(visits, serve_page, house)
    await page.get_by_role("button", name="New key").click()
    await page.get_by_label("Name").fill("carol")
    await page.get_by_label("Tokens a day").fill("5000")
    await page.get_by_label("Expires on").fill("2099-01-31")
    await page.get_by_role("dialog").get_by_label("novels").check()
    await in_dialog(page, "Make the key").click()
    shown = page.get_by_label("Key", exact=True)
    key = await shown.input_value()
    assert (await house.record("carol"))["key_id"] == key[3:11]
    assert await status_with(house, key) == 200
    await in_dialog(page, "Done").click()
    assert key not in await page.content()
    card = key_card(page, "carol")
    await expect(card).to_contain_text("0 of 5,000")
    await expect(card).to_contain_text("2099-01-31")
    record = await house.record("carol")
    assert (record["models"], record["expires_s"]) == (["novels"], 4_073_500_800)
    assert (record["priority"], record["requests_per_minute"]) == (10, None)


async def test_what_is_wrong_is_said_in_the_dialog(
    visits: Visits, serve_page: Serve, house: KeysHouse
) -> None:
    page = await open_keys(visits, serve_page, house)
    await page.get_by_role("button", name="New key").click()
    name, alert = page.get_by_label("Name"), page.get_by_role("dialog").get_by_role("alert")
    make = in_dialog(page, "Make the key")
    for value, says in (
        ("", "Name: "),
        ("alice", "There is a key 'alice' already"),
        ("a b", "1 to 64 letters"),
        ("..", "begin with a letter or digit"),
        ("n" * 65, "at most 64 characters"),
    ):
        await name.fill(value)
        await make.click()
        await expect(alert).to_contain_text(says)
        await expect(name).to_be_focused()
    await name.fill("carol")
    await page.get_by_label("Requests a minute").fill("0")
    await make.click()
    await expect(alert).to_contain_text("Requests a minute: ")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    listed = (await house.send("GET", "/keys")).json()["keys"]
    assert [each["name"] for each in listed] == ["alice", "root"]


async def test_only_what_is_changed_is_sent(
    visits: Visits, serve_page: Serve, house: KeysHouse
) -> None:
    page = await open_keys(visits, serve_page, house)
    await page.get_by_role("button", name="Change alice").click()
    await expect(page.get_by_label("Tokens a day")).to_have_value("1000")
    await house.accounts.administration.change("alice", {"priority": 30})  # somebody else
    await page.get_by_label("Tokens a day").fill("")
    await page.get_by_label("Requests at once").fill("3")
    await in_dialog(page, "Change").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(page.get_by_role("button", name="Change alice")).to_be_focused()
    record = await house.record("alice")
    assert (record["tokens_per_day"], record["concurrent_requests"]) == (None, 3)
    assert record["priority"] == 30


async def test_a_key_is_revoked_and_rotated_after_a_question(
    visits: Visits, serve_page: Serve, house: KeysHouse
) -> None:
    page = await open_keys(visits, serve_page, house)
    await page.get_by_role("button", name="Revoke alice").click()
    await in_dialog(page, "Cancel").click()
    assert await status_with(house, house.keys["alice"]) == 200
    await page.get_by_role("button", name="Revoke alice").click()
    await in_dialog(page, "Revoke").click()
    await expect(key_card(page, "alice")).to_contain_text("revoked")
    assert await status_with(house, house.keys["alice"]) == 401
    await page.get_by_role("button", name="Rotate alice").click()
    await in_dialog(page, "Rotate").click()
    key = await page.get_by_label("Key", exact=True).input_value()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_contain_text("It is not copied yet.")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(key_card(page, "alice")).to_contain_text("active")
    assert await status_with(house, key) == 200


async def test_the_last_administrator_is_told_so(
    visits: Visits, serve_page: Serve, house: KeysHouse
) -> None:
    page = await open_keys(visits, serve_page, house)
    for name, is_told in (("alice", False), ("root", True)):
        await page.get_by_role("button", name=f"Revoke {name}").click()
        question = await page.get_by_role("dialog").inner_text()
        assert ("No administrator is left then" in question) is is_told
        await in_dialog(page, "Cancel").click()


async def test_the_page_goes_on_with_its_own_new_key(
    visits: Visits, serve_page: Serve, house: KeysHouse
) -> None:
    page = await open_keys(visits, serve_page, house)
    await page.get_by_role("button", name="Rotate root").click()
    await expect(page.get_by_role("dialog")).to_contain_text("This page goes on with the new one")
    await in_dialog(page, "Rotate").click()
    await in_dialog(page, "Done").click()
    await page.reload()
    await expect(key_card(page, "alice")).to_be_visible()
    assert await status_with(house, house.keys["root"]) == 401


async def test_a_key_of_no_administrator_sees_its_own_alone(
    visits: Visits, serve_page: Serve, house: KeysHouse
) -> None:
    page = await open_keys(visits, serve_page, house, "alice")
    await expect(key_card(page, "alice")).to_contain_text("0 of 1,000")
    await expect(key_card(page, "root")).to_have_count(0)
    for button in ("New key", "Change alice", "Rotate alice", "Revoke alice"):
        await expect(page.get_by_role("button", name=button)).to_have_count(0)


async def test_where_no_key_is_needed_the_way_to_the_first_is_told(
    visits: Visits, serve_page: Serve, tmp_path: Path
) -> None:
    house = KeysHouse(tmp_path)
    page = await visits.open(f"{serve_page(house.app)}/#/usage")
    keys = page.get_by_role("region", name="Keys", exact=True)
    await expect(keys).to_contain_text("appliance keys create NAME --admin")
    await expect(page.get_by_role("button", name="New key")).to_have_count(0)
    await house.close()
