"""Keys that were made: who is let in, how often the slow hash is computed, and what the
administrator's changes change.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.database.files import opened
from appliance.errors import BadKey, KeyExists, NotFound, RateLimited, Unauthorized
from appliance.gateway.accounts import keyring as keyring_module
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.caller import ANONYMOUS, Caller, CallerLimits
from appliance.gateway.accounts.key_records import (
    MIGRATIONS,
    KeyTerms,
    all_keys,
    change_terms,
    create_key,
    key_named,
    revoke_key,
    rotate_key,
)
from appliance.gateway.accounts.key_text import is_key_of, key_id_of, new_key
from appliance.gateway.accounts.keyring import WRONG_SECRETS_PER_MINUTE, Keyring
from tests.gateway.accounts.clock import Clock

TERMS = KeyTerms(limits=CallerLimits(tokens_per_day=1000, models=("a", "b")), priority=20)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with opened(tmp_path / "keys.sqlite", MIGRATIONS) as connection:
        yield connection


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys whose slow hash was computed."""
    seen: list[str] = []

    def counting(key: str, known: keyring_module.KeyHash) -> bool:
        seen.append(key)
        return is_key_of(key, known)

    monkeypatch.setattr(keyring_module, "is_key_of", counting)
    return seen


async def test_a_key_is_known_by_its_holder_and_hashed_once(
    connection: sqlite3.Connection, hashed: list[str]
) -> None:
    key = create_key(connection, "alice", TERMS, 0.0)
    other = create_key(connection, "bob", KeyTerms(), 0.0)
    keyring = Keyring(all_keys(connection))
    callers = await asyncio.gather(*(keyring.holder_of(key) for _ in range(20)))
    alice = Caller("alice", TERMS.limits, 20, key_id=str(key_id_of(key)))
    assert {*callers} == {alice}
    assert (await keyring.holder_of(other)).id == "bob"
    assert hashed == [key, other]


async def test_nothing_of_a_key_is_kept_but_its_first_part(
    connection: sqlite3.Connection, tmp_path: Path
) -> None:
    key = create_key(connection, "alice", TERMS, 0.0)
    connection.execute("COMMIT")
    connection.execute("BEGIN")
    secret = key.rpartition("-")[2]
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert str(key_id_of(key)).encode() in files
    assert secret.encode() not in files
    keyring = Keyring(all_keys(connection))
    await keyring.holder_of(key)
    assert secret not in repr(vars(keyring))


@pytest.mark.parametrize(
    "change",
    [
        lambda _key: new_key(),
        lambda key: key[:-1] + ("a" if key[-1] != "a" else "b"),
        lambda key: key[:-1],
        lambda key: key + "a",
        lambda key: key.upper(),
        lambda _key: "secret",
        lambda _key: "",
    ],
)
async def test_every_other_key_is_refused(
    connection: sqlite3.Connection, change: Callable[[str], str]
) -> None:
    key = create_key(connection, "alice", TERMS, 0.0)
    keyring = Keyring(all_keys(connection))
    with pytest.raises(Unauthorized, match="not valid for this server"):
        await keyring.holder_of(change(key))


async def test_wrong_secrets_are_hashed_so_often_and_no_more(
    connection: sqlite3.Connection, hashed: list[str]
) -> None:
    clock = Clock()
    key, bobs = (create_key(connection, name, KeyTerms(), 0.0) for name in ("alice", "bob"))
    keyring = Keyring(all_keys(connection), clocks=clock.clocks)
    guesses = [f"{key[:-2]}{number:02}" for number in range(WRONG_SECRETS_PER_MINUTE + 5)]
    for guess in guesses[:WRONG_SECRETS_PER_MINUTE]:
        with pytest.raises(Unauthorized):
            await keyring.holder_of(guess)
    for guess in (*guesses[WRONG_SECRETS_PER_MINUTE:], key):
        with pytest.raises(RateLimited) as raised:
            await keyring.holder_of(guess)
        assert raised.value.retry_after_s == 6
    assert len(hashed) == WRONG_SECRETS_PER_MINUTE
    assert (await keyring.holder_of(bobs)).id == "bob"
    clock.go_on(6)
    assert (await keyring.holder_of(key)).id == "alice"
    with pytest.raises(Unauthorized):
        await keyring.holder_of(guesses[0])
    # a key that is known is not in the way of its guesses
    assert (await keyring.holder_of(key)).id == "alice"


async def test_revoked_and_expired_keys_are_told_so(connection: sqlite3.Connection) -> None:
    clock = Clock()
    key = create_key(connection, "alice", KeyTerms(expires_s=clock.now_s + 60), clock.now_s)
    keyring = Keyring(all_keys(connection), clocks=clock.clocks)
    caller = await keyring.holder_of(key)
    clock.go_on(59.9)
    assert await keyring.holder_of(key) == caller == keyring.present(caller)
    clock.go_on(0.1)
    for attempt in (keyring.holder_of(key), _present(keyring, caller)):
        with pytest.raises(Unauthorized, match=r"'alice' expired on 20\d\d-\d\d-\d\d 12:01 UTC"):
            await attempt
    change_terms(connection, "alice", KeyTerms())
    keyring.replace(all_keys(connection))
    assert await keyring.holder_of(key) == caller
    revoke_key(connection, "alice", clock.now_s)
    keyring.replace(all_keys(connection))
    for attempt in (keyring.holder_of(key), _present(keyring, caller)):
        with pytest.raises(Unauthorized, match=r"'alice' was revoked on 20\d\d-\d\d-\d\d 12:01"):
            await attempt
    fresh = Keyring(all_keys(connection), clocks=clock.clocks)
    with pytest.raises(Unauthorized, match="revoked"):
        await fresh.holder_of(key)


async def _present(keyring: Keyring, caller: Caller) -> Caller | None:
    return keyring.present(caller)


async def test_a_rotated_key_ends_and_the_new_one_has_its_terms(
    connection: sqlite3.Connection,
) -> None:
    old = create_key(connection, "alice", TERMS, 0.0)
    keyring = Keyring(all_keys(connection))
    caller = await keyring.holder_of(old)
    revoke_key(connection, "alice", 1.0)
    new = rotate_key(connection, "alice", 2.0)
    keyring.replace(all_keys(connection))
    with pytest.raises(Unauthorized, match="not valid"):
        await keyring.holder_of(old)
    with pytest.raises(Unauthorized, match="was replaced"):
        keyring.present(caller)
    assert keyring.present(Caller("alice")) == await keyring.holder_of(new)
    holder = await keyring.holder_of(new)
    assert (holder.id, holder.limits, holder.priority) == ("alice", TERMS.limits, 20)
    record = key_named(connection, "alice")
    assert (record.created_s, record.rotated_s, record.revoked_s) == (0.0, 2.0, None)


def test_terms_change_and_the_key_does_not(connection: sqlite3.Connection) -> None:
    key = create_key(connection, "alice", TERMS, 0.0)
    changed = KeyTerms(limits=CallerLimits(concurrent_requests=2), expires_s=5.0)
    change_terms(connection, "alice", changed)
    record = key_named(connection, "alice")
    assert (record.terms, record.key_id) == (changed, key_id_of(key))
    with pytest.raises(BadKey, match=r"'alice' expired on 1970-01-01 00:00 UTC.*more time"):
        rotate_key(connection, "alice", 5.0)


@pytest.mark.parametrize("name", ["", "a b", "-a", "é", "a/b", "x" * 65, "a\n"])
def test_names_that_are_none(connection: sqlite3.Connection, name: str) -> None:
    with pytest.raises(BadKey, match="1 to 64 letters"):
        create_key(connection, name, KeyTerms(), 0.0)


def test_names_that_are_taken(connection: sqlite3.Connection) -> None:
    for name in ("anonymous", "other", "key-0f0f0f0f"):
        with pytest.raises(BadKey, match="another kind of caller"):
            create_key(connection, name, KeyTerms(), 0.0)
    create_key(connection, "alice", KeyTerms(), 0.0)
    revoke_key(connection, "alice", 1.0)
    with pytest.raises(KeyExists, match=r"or there was.*Rotate it"):
        create_key(connection, "alice", KeyTerms(), 2.0)
    for act in (revoke_key, rotate_key):
        with pytest.raises(NotFound, match="There is no key 'bob'"):
            act(connection, "bob", 0.0)


# --- beside the keys of a file --------------------------------------------------------


async def test_keys_of_a_file_count_beside_those_that_were_made(
    connection: sqlite3.Connection,
) -> None:
    keyring = Keyring()
    admission = Admission(["file-key"], keyring)
    of_file = await admission.authorize("Bearer file-key")
    key = create_key(connection, "alice", TERMS, 0.0)
    keyring.replace(all_keys(connection))
    assert await admission.authorize("Bearer file-key") == of_file == admission.present(of_file)
    alice = await admission.authorize(None, [("api-key", key)])
    assert (alice.id, admission.present(alice)) == ("alice", alice)


async def test_the_first_key_closes_the_server_and_the_last_one_does_not_open_it(
    connection: sqlite3.Connection,
) -> None:
    keyring = Keyring()
    admission = Admission((), keyring)
    assert await admission.authorize(None) is ANONYMOUS is admission.present(ANONYMOUS)
    create_key(connection, "alice", TERMS, 0.0)
    revoke_key(connection, "alice", 1.0)
    keyring.replace(all_keys(connection))
    assert admission.requires_key
    with pytest.raises(Unauthorized, match="needs an API key"):
        await admission.authorize(None)
    with pytest.raises(Unauthorized, match="Connect again"):
        admission.present(ANONYMOUS)
