"""The file of keys beside a running server: changed by another process, restarted with,
damaged, not there.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from pathlib import Path

import pytest

from appliance.database.files import opened
from appliance.errors import BadDatabase, BadSettings, Unauthorized
from appliance.gateway.accounts.accounts import Accounts
from appliance.gateway.accounts.caller import ANONYMOUS, CallerLimits
from appliance.gateway.accounts.key_records import (
    FILE_NAME,
    MIGRATIONS,
    KeyTerms,
    add_day_tokens,
    create_key,
    revoke_key,
    tokens_of_day,
)
from appliance.protocol.events import Started
from appliance.protocol.requests import GenerateRequest, TokenPrompt
from tests.gateway.accounts.clock import Clock

DAILY = KeyTerms(limits=CallerLimits(tokens_per_day=1000))


def made(folder: Path, name: str, terms: KeyTerms = DAILY) -> str:
    """As the command makes it, on a connection of its own."""
    with opened(folder / FILE_NAME, MIGRATIONS) as connection:
        return create_key(connection, name, terms, 0.0)


async def use(accounts: Accounts, key: str, num_tokens: int) -> int:
    """Tokens left of the day before it."""
    caller = await accounts.admission.authorize(f"Bearer {key}")
    [standing] = accounts.quotas.standings(caller)
    request = GenerateRequest(prompt=TokenPrompt([1] * num_tokens), max_tokens=0)
    reservation = accounts.quotas.reserve(caller, request)
    assert reservation is not None
    with reservation:
        reservation.begun().event(Started(1, num_tokens))
    return standing.left


async def test_without_keys_there_is_no_file(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    await accounts.refresh()
    assert await accounts.admission.authorize(None) is ANONYMOUS
    await accounts.close()
    assert [*tmp_path.iterdir()] == []


async def test_what_a_command_changes_counts_from_the_next_look_on(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    await accounts.refresh()
    key = made(tmp_path, "alice")
    await accounts.refresh()
    assert (await accounts.admission.authorize(f"Bearer {key}")).id == "alice"
    bobs = made(tmp_path, "bob")
    with pytest.raises(Unauthorized):
        await accounts.admission.authorize(f"Bearer {bobs}")
    await accounts.refresh()
    assert (await accounts.admission.authorize(f"Bearer {bobs}")).id == "bob"
    with opened(tmp_path / FILE_NAME, MIGRATIONS) as connection:
        revoke_key(connection, "alice", 0.0)
    await accounts.refresh()
    with pytest.raises(Unauthorized, match="'alice' was revoked"):
        await accounts.admission.authorize(f"Bearer {key}")
    await accounts.close()


async def test_what_is_changed_here_counts_at_once_and_opens_the_file_once(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    threads = {*threading.enumerate()}
    names = ("alice", "bob", "carol")
    keys = await asyncio.gather(*(accounts.administration.create(name, {}) for name in names))
    for name, key in zip(names, keys, strict=True):
        assert (await accounts.admission.authorize(f"Bearer {key}")).id == name
    opened_here = {*threading.enumerate()} - threads
    assert [each.name for each in opened_here if "keys.sqlite" in each.name] == [
        "database keys.sqlite"
    ]
    await accounts.close()


async def test_what_was_used_today_survives_a_restart_and_not_the_day(tmp_path: Path) -> None:
    clock, key = Clock(), made(tmp_path, "alice")
    for left, num_tokens in ((1000, 300), (700, 100)):
        accounts = Accounts(tmp_path, clocks=clock.clocks)
        await accounts.refresh()
        assert await use(accounts, key, num_tokens) == left
        await accounts.close()
    clock.go_on(43_200)
    accounts = Accounts(tmp_path, clocks=clock.clocks)
    await accounts.refresh()
    assert await use(accounts, key, 1) == 1000
    await accounts.close()
    with opened(tmp_path / FILE_NAME, MIGRATIONS) as connection:
        assert tokens_of_day(connection, clock.day - 1) == {}
        assert tokens_of_day(connection, clock.day) == {"alice": 1}


async def test_two_servers_of_one_state_share_a_day(tmp_path: Path) -> None:
    clock, key = Clock(), made(tmp_path, "alice")
    first, second = (Accounts(tmp_path, clocks=clock.clocks) for _ in range(2))
    for accounts in (first, second):
        await accounts.refresh()
    assert await use(first, key, 300) == 1000
    await first.close()  # writes
    await second.refresh()
    assert await use(second, key, 10) == 700
    await second.refresh()
    assert await use(second, key, 10) == 690
    await second.close()


async def test_the_first_look_is_taken_before_anything_is_served(tmp_path: Path) -> None:
    clock, key = Clock(), made(tmp_path, "alice")
    with opened(tmp_path / FILE_NAME, MIGRATIONS) as connection:
        add_day_tokens(connection, "alice", clock.day, 400)
    accounts = Accounts(tmp_path, clocks=clock.clocks)
    assert accounts.admission.requires_key
    assert await use(accounts, key, 0) == 600


def test_a_damaged_file_is_no_open_door(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(BadDatabase, match=r"keys\.sqlite is damaged"):
        Accounts(tmp_path)


def test_a_file_of_keys_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="cannot be read"):
        Accounts(tmp_path, tmp_path / "absent")


async def test_a_file_that_is_damaged_later_changes_nothing_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = made(tmp_path, "alice")
    accounts = Accounts(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await accounts.refresh()
    [record] = caplog.records
    assert "changed keys do not count for now" in record.getMessage()
    assert (await accounts.admission.authorize(f"Bearer {key}")).id == "alice"
    await accounts.close()


async def test_a_copy_in_place_of_the_file_counts_and_none_opens_nothing(tmp_path: Path) -> None:
    path, copy = tmp_path / FILE_NAME, tmp_path / "copy"
    alices = made(tmp_path, "alice")
    copy.mkdir()
    bobs = made(copy, "bob")
    accounts = Accounts(tmp_path)
    await accounts.refresh()
    for number, key in enumerate((bobs, alices)):
        path.rename(tmp_path / f"moved-{number}")
        for end in ("-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
        await accounts.refresh()
        assert accounts.admission.requires_key
        ((copy / FILE_NAME) if key == bobs else (tmp_path / "moved-0")).rename(path)
        await accounts.refresh()
        assert (await accounts.admission.authorize(f"Bearer {key}")).id in ("alice", "bob")
    with pytest.raises(Unauthorized):
        await accounts.admission.authorize(f"Bearer {bobs}")
    await accounts.close()


async def test_keys_that_were_lost_leave_the_door_closed(tmp_path: Path) -> None:
    made(tmp_path, "alice")
    accounts = Accounts(tmp_path)
    path = tmp_path / FILE_NAME
    path.write_bytes(b"no database" * 1000)
    await accounts.refresh()
    path.rename(tmp_path / "damaged")  # the next look begins another file
    await accounts.refresh()
    with opened(path, MIGRATIONS) as connection:
        assert connection.execute("SELECT count(*) FROM keys").fetchone()[0] == 0
    with pytest.raises(Unauthorized, match="needs an API key"):
        await accounts.admission.authorize(None)
    bobs = made(tmp_path, "bob")
    await accounts.refresh()
    assert (await accounts.admission.authorize(f"Bearer {bobs}")).id == "bob"
    await accounts.close()


def test_what_is_written_is_what_the_version_says(tmp_path: Path) -> None:
    made(tmp_path, "alice")
    raw = sqlite3.connect(tmp_path / FILE_NAME)
    assert raw.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    raw.close()
