"""Keys made, changed and ended over HTTP: by administrators, and by nobody else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from appliance.api.app import create_app
from appliance.api.keys.routes import key_routes
from appliance.gateway.accounts.key_records import FILE_NAME, KeyTerms
from tests.api.doors import Door, doors
from tests.api.keys_house import KeysHouse
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_to

KEY = re.compile(r"ak-[A-Za-z0-9]{8}-[A-Za-z0-9]{32}")
CHANGES = [
    door.filled("alice")
    for door in doors(key_routes(gateway_around(ScriptedClient())).routes)
    if door.method != "GET"
]
BODIES = {"POST": {"name": "carol"}, "PATCH": {"priority": 20}}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncGenerator[KeysHouse, None]:
    house = KeysHouse(tmp_path)
    await house.prepare()
    yield house
    await house.close()


async def test_a_key_is_shown_once_and_opens_the_server_at_once(house: KeysHouse) -> None:
    response = await house.send("POST", "/keys", {"name": "bob", "priority": 20})
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    made = response.json()
    assert made == {"name": "bob", "key": made["key"]}
    assert KEY.fullmatch(made["key"])
    listed = await house.send("GET", "/keys")
    assert [each["name"] for each in listed.json()["keys"]] == ["alice", "bob", "root"]
    assert listed.json()["may_change"] is True
    assert KEY.search(listed.text) is None
    assert (await house.record("bob"))["key_id"] == made["key"][3:11]
    assert (await house.send("GET", "/v1/models", name=made["key"])).status_code == 200


async def test_what_a_key_is_told_to_be(house: KeysHouse) -> None:
    terms = {
        "models": ["novels", "other", "novels"],
        "requests_per_minute": 30,
        "tokens_per_minute": 2000.0,
        "tokens_per_day": 100_000,
        "concurrent_requests": 2,
        "priority": 5,
        "expires_s": 4_073_500_800,
        "is_admin": True,
    }
    await house.send("POST", "/keys", {"name": "bob", **terms})
    before = await house.record("bob")
    assert before == {**before, **terms, "models": ["novels", "other"], "state": "active"}
    change = {"models": "none", "tokens_per_day": "none", "priority": 6, "is_admin": None}
    response = await house.send("PATCH", "/keys/bob", change)
    after = {**before, "models": None, "tokens_per_day": None, "priority": 6}
    assert (response.status_code, response.json()) == (200, after)
    await house.send("PATCH", "/keys/bob", {"expires_s": 1})
    assert (await house.record("bob"))["state"] == "expired"


async def test_rotating_and_revoking_count_at_once(house: KeysHouse) -> None:
    rotated = (await house.send("POST", "/keys/alice/rotate")).json()
    assert (await house.send("GET", "/v1/models", name="alice")).status_code == 401
    assert (await house.send("GET", "/v1/models", name=rotated["key"])).status_code == 200
    revoked = await house.send("POST", "/keys/alice/revoke")
    assert (revoked.status_code, revoked.json()["state"]) == (200, "revoked")
    refused = await house.send("GET", "/v1/models", name=rotated["key"])
    assert refused.status_code == 401
    assert "'alice' was revoked" in refused.json()["error"]["message"]
    again = (await house.send("POST", "/keys/alice/rotate")).json()
    assert (await house.send("GET", "/v1/models", name=again["key"])).status_code == 200


async def test_an_administrator_who_is_one_no_more_changes_nothing(house: KeysHouse) -> None:
    await house.send("POST", "/keys", {"name": "second", "is_admin": True})
    assert (await house.send("PATCH", "/keys/root", {"is_admin": False})).status_code == 200
    assert (await house.send("POST", "/keys/alice/revoke")).status_code == 403
    assert (await house.record("root"))["is_admin"] is False


def test_the_changes_are_all_there_are() -> None:
    assert {(door.method, door.path) for door in CHANGES} == {
        ("POST", "/keys"),
        ("PATCH", "/keys/alice"),
        ("POST", "/keys/alice/rotate"),
        ("POST", "/keys/alice/revoke"),
    }


@pytest.mark.parametrize("door", CHANGES, ids=str)
async def test_another_key_changes_nothing_and_sees_itself_alone(
    house: KeysHouse, door: Door
) -> None:
    before = await house.record("alice")
    for path in (door.path, f"/v1{door.path}", f"{door.path}/"):
        response = await house.send(door.method, path, BODIES[door.method], name="alice")
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "not_allowed"
    assert await house.record("alice") == before
    seen = await house.send("GET", "/keys", name="alice")
    assert [each["name"] for each in seen.json()["keys"]] == ["alice"]
    assert seen.json()["may_change"] is False
    assert "root" not in seen.text


@pytest.mark.parametrize("door", CHANGES, ids=str)
async def test_where_no_key_is_needed_none_is_made(tmp_path: Path, door: Door) -> None:
    house = KeysHouse(tmp_path)
    async with http_to(house.app) as http:
        response = await http.request(door.method, door.path, json=BODIES[door.method])
        assert response.status_code == 403
        assert "appliance keys create NAME --admin" in response.json()["error"]["message"]
        listed = (await http.get("/keys")).json()
    assert listed == {"keys": [], "may_change": False}
    await house.close()
    assert not (tmp_path / FILE_NAME).exists()


async def test_the_single_key_of_a_file_makes_the_first_one(tmp_path: Path) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text("secret")
    house = KeysHouse(tmp_path, key_file)
    assert (await house.send("PATCH", "/keys/bob", {"priority": 3}, "secret")).status_code == 404
    assert not (tmp_path / FILE_NAME).exists()
    made = (await house.send("POST", "/keys", {"name": "bob"}, "secret")).json()
    assert (await house.send("GET", "/v1/models", name=made["key"])).status_code == 200
    await house.close()


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({}, "name", "Missing required parameter: 'name'"),
        ({"name": "a b"}, "name", "1 to 64 letters"),
        ({"name": "anonymous"}, "name", "another kind of caller"),
        ({"name": "key-1234"}, "name", "another kind of caller"),
        ({"name": "bob", "tokens_per_day": 0}, "tokens_per_day", "greater than or equal to 1"),
        ({"name": "bob", "tokens_per_day": "5"}, "tokens_per_day", "valid integer"),
        ({"name": "bob", "tokens_per_day": 10**12 + 1}, "tokens_per_day", "less than or equal"),
        ({"name": "bob", "models": []}, "models", "at least 1 item"),
        ({"name": "bob", "models": "novels"}, "models", "valid list"),
        ({"name": "bob", "priority": 101}, "priority", "less than or equal to 100"),
        ({"name": "bob", "priority": "none"}, "priority", "valid integer"),
        ({"name": "bob", "expires_s": -1}, "expires_s", "greater than or equal to 0"),
        ({"name": "bob", "token_per_day": 5}, "token_per_day", "Unrecognized"),
    ],
)
async def test_what_makes_no_key_is_named(
    house: KeysHouse, body: dict[str, Any], param: str, says: str
) -> None:
    response = await house.send("POST", "/keys", body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert says in error["message"]
    assert len((await house.send("GET", "/keys")).json()["keys"]) == 2


async def test_names_that_are_taken_not_known_or_expired(house: KeysHouse) -> None:
    taken = await house.send("POST", "/keys", {"name": "alice"})
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "key_exists")
    for method, path in (("PATCH", "/keys/bob"), ("POST", "/keys/bob/rotate")):
        unknown = await house.send(method, path, {"priority": 3} if method == "PATCH" else None)
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
    await house.send("PATCH", "/keys/alice", {"expires_s": 1})
    expired = await house.send("POST", "/keys/alice/rotate")
    assert (expired.status_code, expired.json()["error"]["code"]) == (400, "bad_key")
    nothing = await house.send("PATCH", "/keys/alice", {"priority": None})
    assert (nothing.status_code, nothing.json()["error"]["code"]) == (400, "invalid_request")


async def test_administrators_at_the_same_time_lose_nothing(house: KeysHouse) -> None:
    await house.send("POST", "/keys", {"name": "second", "is_admin": True})
    changes = [{"priority": 30}, {"requests_per_minute": 3}, {"concurrent_requests": 4}]
    await asyncio.gather(*(house.send("PATCH", "/keys/alice", each) for each in changes))
    record = await house.record("alice")
    assert (record["priority"], record["requests_per_minute"]) == (30, 3)
    assert (record["concurrent_requests"], record["tokens_per_day"]) == (4, 1000)
    made = await asyncio.gather(*(house.send("POST", "/keys", {"name": "bob"}) for _ in range(4)))
    assert sorted(each.status_code for each in made) == [200, 409, 409, 409]


async def test_what_each_has_used(house: KeysHouse) -> None:
    for name in ("root", "alice", "alice"):
        assert (
            await house.send("POST", "/v1/completions", {"prompt": "Once"}, name)
        ).status_code == 200
    now_s = house.clock.clocks.unix_s()
    for name, num_requests in (("root", 1), ("alice", 2)):
        record = await house.record(name)
        assert record["requests_today"] == num_requests
        assert record["last_used_s"] == int(now_s)
    assert (await house.record("root"))["tokens_today"] == 10
    house.clock.go_on(2 * 86_400)
    record = await house.record("root")
    assert (record["requests_today"], record["tokens_today"]) == (0, 0)
    assert record["last_used_s"] == int(now_s)


async def test_a_damaged_file_is_told_without_its_folder(house: KeysHouse) -> None:
    await house.accounts.close()
    (house.folder / FILE_NAME).write_bytes(b"no database" * 1000)
    response = await house.send("POST", "/keys", {"name": "bob"})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "storage_failed")
    assert str(house.folder) not in response.text


async def test_a_server_that_makes_no_keys_says_so() -> None:
    app = create_app(gateway_around(ScriptedClient(*ANSWER), keys=["secret"]))
    async with http_to(app, authorization="Bearer secret") as http:
        assert (await http.get("/keys")).json() == {"keys": [], "may_change": True}
        response = await http.post("/keys", json={"name": "bob"})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "not_allowed")


def test_terms_that_are_given_are_all_that_changes() -> None:
    terms = KeyTerms(priority=3).changed({"tokens_per_day": 5, "is_admin": True})
    assert (terms.priority, terms.limits.tokens_per_day, terms.is_admin) == (3, 5, True)
