"""What is kept of responses and conversations, whose it is, for how long, and how much."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.errors import BadRequest, NotFound
from appliance.gateway.stored_responses import response_table
from appliance.gateway.stored_responses.database_store import DatabaseStore, open_store
from appliance.gateway.stored_responses.schema import MIGRATIONS
from appliance.gateway.stored_responses.store import (
    StoredConversation,
    StoredItem,
    StoredResponse,
)

LIFETIME_S = 100.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database() -> AsyncGenerator[Database, None]:
    database = Database(None, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)
    yield database
    assert database.num_lost == 0
    await database.close()


@pytest.fixture
def store(database: Database, clock: Clock) -> DatabaseStore:
    return DatabaseStore(database, lifetime_s=LIFETIME_S, max_bytes=1 << 30, clock=clock)


def response(
    name: str, previous: str | None = None, num_bytes: int = 0, conversation: str | None = None
) -> StoredResponse:
    return StoredResponse(
        id=name,
        record=b"{}" + b" " * num_bytes,
        input_items=[item(f"{name}-in")],
        previous_id=previous,
        conversation_id=conversation,
    )


def item(name: str) -> StoredItem:
    return StoredItem(id=name, content=b'"%b"' % name.encode())


async def ids_up_to(store: DatabaseStore, name: str) -> list[str]:
    return [turn.id for turn in await store.history("ann", name)]


async def are_there(store: DatabaseStore, *names: str) -> list[str]:
    there = []
    for name in names:
        try:
            await store.record("ann", name)
        except NotFound:
            continue
        there.append(name)
    return there


async def count(database: Database, table: str) -> int:
    def work(connection: sqlite3.Connection) -> int:
        number: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return number

    return await database.run(work)


# --- chains ---------------------------------------------------------------------------


async def test_a_response_is_read_with_all_that_it_continues(store: DatabaseStore) -> None:
    store.save("ann", response("a"))
    store.save("ann", response("b", "a"))
    store.save("ann", response("c", "b"))
    store.save("ann", response("fork", "a"))
    assert await ids_up_to(store, "c") == ["a", "b", "c"]
    assert await ids_up_to(store, "fork") == ["a", "fork"]
    turns = await store.history("ann", "b")
    assert [turn.input_items for turn in turns] == [[item("a-in")], [item("b-in")]]


async def test_another_caller_s_are_not_there(store: DatabaseStore) -> None:
    store.save("ann", response("a"))
    with pytest.raises(NotFound, match="no response with id 'a'"):
        await store.record("bob", "a")
    with pytest.raises(NotFound):
        await store.history("bob", "a")
    with pytest.raises(NotFound):
        await store.delete("bob", "a")
    store.save("bob", response("b", "a"))
    assert [turn.id for turn in await store.history("bob", "b")] == ["b"]
    assert await are_there(store, "a", "b") == ["a"]


async def test_what_was_added_is_replaced_by_its_end(store: DatabaseStore) -> None:
    promised = StoredResponse(id="a", record=b"lost", input_items=[item("i")], has_ended=False)
    await store.add("ann", promised)
    assert await store.record("ann", "a") == b"lost"
    assert [turn.has_ended for turn in await store.history("ann", "a")] == [False]
    store.save("ann", StoredResponse(id="a", record=b"done", input_items=[item("i")]))
    [turn] = await store.history("ann", "a")
    assert (turn.record, turn.has_ended, turn.input_items) == (b"done", True, [item("i")])


async def test_one_that_is_deleted_stays_part_of_what_continues_it(
    store: DatabaseStore, database: Database
) -> None:
    for name, previous in (("a", None), ("b", "a"), ("c", "b")):
        store.save("ann", response(name, previous))
    await store.delete("ann", "b")
    assert await are_there(store, "a", "b", "c") == ["a", "c"]
    assert await ids_up_to(store, "c") == ["a", "b", "c"]
    await store.delete("ann", "c")
    assert await are_there(store, "a", "b", "c") == ["a"]
    assert (await count(database, "responses"), await count(database, "input_items")) == (1, 1)


async def test_too_much_to_be_read_again_is_said(
    store: DatabaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_table, "MAX_HISTORY_BYTES", 2 << 20)
    store.save("ann", response("a", num_bytes=1 << 20))
    store.save("ann", response("b", "a", num_bytes=1 << 20))
    assert await ids_up_to(store, "a") == ["a"]
    with pytest.raises(BadRequest, match="more than 2 MiB"):
        await store.history("ann", "b")


# --- time and room --------------------------------------------------------------------


async def test_a_response_lives_its_time_and_as_long_as_what_continues_it(
    store: DatabaseStore, database: Database, clock: Clock
) -> None:
    store.save("ann", response("alone"))
    store.save("ann", response("a"))
    clock.now_s += 60
    store.save("ann", response("b", "a"))
    assert await are_there(store, "alone", "a", "b") == ["alone", "a", "b"]
    clock.now_s += 40
    assert await are_there(store, "alone", "a", "b") == ["a", "b"]
    clock.now_s += 60
    assert await are_there(store, "alone", "a", "b") == []
    assert await count(database, "responses") == 0


async def test_what_was_deleted_before_goes_with_what_continued_it(
    store: DatabaseStore, database: Database, clock: Clock
) -> None:
    store.save("ann", response("a"))
    clock.now_s += 60
    store.save("ann", response("b", "a"))
    await store.delete("ann", "a")
    clock.now_s += 100
    await are_there(store, "a")
    assert await count(database, "responses") == 0


async def test_for_ever_is_for_ever(database: Database, clock: Clock) -> None:
    store = DatabaseStore(database, lifetime_s=float("inf"), max_bytes=1 << 30, clock=clock)
    store.save("ann", response("a"))
    clock.now_s += 1e9
    assert await are_there(store, "a") == ["a"]


async def test_however_many_have_had_their_time_none_is_read(
    store: DatabaseStore, database: Database, clock: Clock
) -> None:
    names = [f"r{number}" for number in range(250)]
    for name in names:
        store.save("ann", response(name))
    clock.now_s += LIFETIME_S
    assert await are_there(store, names[-1]) == []
    assert await count(database, "responses") == 0


async def test_what_was_used_longest_ago_makes_room(database: Database, clock: Clock) -> None:
    store = DatabaseStore(database, lifetime_s=LIFETIME_S, max_bytes=2_200_000, clock=clock)
    names = ("a", "b", "old", "new")
    for name, previous in (("a", None), ("old", None), ("b", "a")):
        clock.now_s += 1
        store.save("ann", response(name, previous, num_bytes=700_000))
    assert await are_there(store, *names) == ["a", "b", "old"]
    clock.now_s += 1
    store.save("ann", response("new", num_bytes=700_000))
    # the one that nothing continues, though another one is older
    assert await are_there(store, *names) == ["a", "b", "new"]
    store.save("ann", response("huge", num_bytes=3_000_000))
    assert await are_there(store, *names, "huge") == []
    assert await count(database, "input_items") == 0


async def test_conversations_make_room_too(database: Database, clock: Clock) -> None:
    store = DatabaseStore(database, lifetime_s=LIFETIME_S, max_bytes=1_000_000, clock=clock)
    big = StoredItem(id="big", content=b" " * 700_000)
    await store.create_conversation("ann", conversation("c"), [big])
    clock.now_s += 1
    store.save("ann", response("a", num_bytes=700_000))
    assert await are_there(store, "a") == ["a"]
    with pytest.raises(NotFound, match="no conversation with id 'c'"):
        await store.items("ann", "c")


# --- conversations --------------------------------------------------------------------


def conversation(name: str) -> StoredConversation:
    return StoredConversation(id=name, created_s=7, metadata=b"{}")


async def test_a_conversation_grows_by_what_is_said_in_it(store: DatabaseStore) -> None:
    await store.create_conversation("ann", conversation("c"), [item("x")])
    store.save("ann", response("a", conversation="c"), [item("a-in"), item("a-out")])
    store.save("ann", response("failed", conversation="c"), None)
    assert await store.items("ann", "c") == [item("x"), item("a-in"), item("a-out")]
    assert (await store.delete_item("ann", "c", "a-in")).id == "c"
    with pytest.raises(NotFound, match="no item with id 'a-in'"):
        await store.delete_item("ann", "c", "a-in")
    assert await store.items("ann", "c") == [item("x"), item("a-out")]
    changed = await store.set_metadata("ann", "c", b'{"topic":"x"}')
    assert changed == StoredConversation(id="c", created_s=7, metadata=b'{"topic":"x"}')
    await store.delete_conversation("ann", "c")
    store.save("ann", response("late", conversation="c"), [item("late")])
    assert await are_there(store, "a", "late") == ["a", "late"]


async def test_another_caller_s_conversation_is_not_there(store: DatabaseStore) -> None:
    await store.create_conversation("ann", conversation("c"), [item("x")])
    for attempt in (
        store.conversation("bob", "c"),
        store.items("bob", "c"),
        store.add_items("bob", "c", [item("y")]),
        store.set_metadata("bob", "c", b"1"),
        store.delete_item("bob", "c", "x"),
        store.delete_conversation("bob", "c"),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await store.items("ann", "c") == [item("x")]
    assert await store.conversation("ann", "c") == conversation("c")


async def test_a_conversation_lives_since_it_was_used(store: DatabaseStore, clock: Clock) -> None:
    await store.create_conversation("ann", conversation("c"), [])
    clock.now_s += 60
    await store.add_items("ann", "c", [item("x")])
    clock.now_s += 60
    assert await store.items("ann", "c") == [item("x")]
    clock.now_s += 40
    with pytest.raises(NotFound):
        await store.conversation("ann", "c")


# --- the file -------------------------------------------------------------------------


async def test_it_is_there_after_a_restart(tmp_path: Path) -> None:
    for names in (["a"], ["a", "b"]):
        store = open_store(tmp_path, lifetime_s=LIFETIME_S, max_bytes=1 << 20)
        store.save("ann", response(names[-1]))
        assert await are_there(store, "a", "b") == names
        await store.close()


async def test_a_state_folder_that_cannot_be_written_costs_only_the_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").touch()
    store = open_store(tmp_path / "state", lifetime_s=LIFETIME_S, max_bytes=1 << 20)
    store.save("ann", response("a"))
    assert await are_there(store, "a") == ["a"]
    await store.close()
    assert "stored responses are kept in memory alone" in caplog.text
