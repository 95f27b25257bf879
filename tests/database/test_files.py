"""What a file must be to be opened: private, whole, and not of a newer program."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from appliance.database import files
from appliance.database.database import Database
from appliance.database.files import DatabaseFile, WhenDamaged, opened, pragma
from appliance.errors import BadDatabase, StorageFailed

FIRST = "CREATE TABLE notes (text TEXT NOT NULL) STRICT;"
SECOND = """
-- with a trigger, whose statements end inside
CREATE TABLE log (text TEXT) STRICT;
CREATE TRIGGER noted AFTER INSERT ON notes BEGIN
    INSERT INTO log VALUES (new.text);
    INSERT INTO log VALUES ('again');
END;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.sqlite"


def write(path: Path, *texts: str | None, migrations: tuple[str, ...] = (FIRST,)) -> None:
    with opened(path, migrations) as connection:
        connection.executemany("INSERT INTO notes VALUES (?)", [(text,) for text in texts])


def read(connection: sqlite3.Connection) -> list[str]:
    return [row["text"] for row in connection.execute("SELECT text FROM notes")]


def read_file(path: Path, migrations: tuple[str, ...] = (FIRST,)) -> list[str]:
    with opened(path, migrations) as connection:
        return read(connection)


def test_only_its_owner_may_read_it(path: Path) -> None:
    path.touch(mode=0o666)
    with opened(path, [FIRST]) as connection:
        connection.execute("INSERT INTO notes VALUES ('a')")
        written = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert written == {
        "notes.sqlite": 0o600,
        "notes.sqlite-wal": 0o600,
        "notes.sqlite-shm": 0o600,
        "notes.sqlite.lock": 0o600,
    }


def test_migrations_are_done_once_each(path: Path) -> None:
    write(path, "a")
    write(path, "b", migrations=(FIRST, SECOND))
    with opened(path, (FIRST, SECOND)) as connection:
        assert read(connection) == ["a", "b"]
        assert [row["text"] for row in connection.execute("SELECT * FROM log")] == ["b", "again"]
        assert pragma(connection, "user_version") == 2


def test_a_migration_that_does_not_work_leaves_the_file_as_it_was(path: Path) -> None:
    write(path, "a")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        write(path, "b", migrations=(FIRST, "DELETE FROM notes;\nDELETE FROM others;"))
    assert read_file(path) == ["a"]


def test_a_file_of_a_newer_program_is_refused(path: Path) -> None:
    write(path, "a", migrations=(FIRST, SECOND))
    for when_damaged in WhenDamaged:
        file = DatabaseFile(path=path, migrations=[FIRST], when_damaged=when_damaged)
        with pytest.raises(BadDatabase, match=r"notes\.sqlite is of version 2, .* up to 1"):
            file.connect()
    assert read_file(path, (FIRST, SECOND)) == ["a"]


def test_a_transaction_that_raises_writes_nothing(path: Path) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        write(path, "a", None)
    assert read_file(path) == []


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="cannot be opened: its folder is a file"):
        write(tmp_path / "file" / "notes.sqlite", "a")


# --- damage ---------------------------------------------------------------------------


@pytest.mark.parametrize("is_whole_garbage", [True, False])
def test_a_damaged_file_is_refused_and_stays(path: Path, is_whole_garbage: bool) -> None:
    damage(path, is_whole_garbage)
    content = path.read_bytes()
    with pytest.raises(BadDatabase, match=r"notes\.sqlite is damaged .*: restore it"):
        write(path, "b")
    assert path.read_bytes() == content


@pytest.mark.parametrize("is_whole_garbage", [True, False])
async def test_a_damaged_file_is_set_aside(
    path: Path, is_whole_garbage: bool, caplog: pytest.LogCaptureFixture
) -> None:
    damage(path, is_whole_garbage)
    content = path.read_bytes()
    database = Database(path, [FIRST], when_damaged=WhenDamaged.SET_ASIDE)
    assert await database.run(read) == []
    await database.close()
    [aside] = path.parent.glob("notes.sqlite.damaged-*")
    assert aside.read_bytes() == content
    assert f"it is now {aside.name}" in caplog.text


async def test_damage_that_shows_later_is_set_aside_then(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(path, is_whole_garbage=False)
    monkeypatch.setattr(files, "_MAX_CHECKED_BYTES", 0)
    database = Database(path, [FIRST], when_damaged=WhenDamaged.SET_ASIDE)
    with pytest.raises(StorageFailed, match=r"notes\.sqlite was damaged, and what it held is lost"):
        await database.run(read)
    assert await database.run(read) == []
    await database.close()
    assert len([*path.parent.glob("notes.sqlite.damaged-*")]) == 1


async def test_damage_that_shows_later_is_refused_from_then_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(path, is_whole_garbage=False)
    content = path.read_bytes()
    monkeypatch.setattr(files, "_MAX_CHECKED_BYTES", 0)
    database = Database(path, [FIRST], when_damaged=WhenDamaged.REFUSE)
    for _ in range(2):
        with pytest.raises(StorageFailed, match=r"notes\.sqlite was damaged\."):
            await database.run(read)
    await database.close()
    assert path.read_bytes() == content


# --- another file at the path ---------------------------------------------------------


async def test_a_copy_that_is_put_in_its_place_is_what_counts(path: Path) -> None:
    copy = path.with_name("copy.sqlite")
    write(copy, "of the copy")
    database = Database(path, [FIRST], when_damaged=WhenDamaged.REFUSE)
    await database.run(lambda raw: raw.execute("INSERT INTO notes VALUES ('old')"))
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink()
    copy.replace(path)
    assert await database.run(read) == ["of the copy"]
    await database.run(lambda raw: raw.execute("INSERT INTO notes VALUES ('new')"))
    await database.close()
    with opened(path, [FIRST]) as connection:
        assert read(connection) == ["of the copy", "new"]


IN_A_PROCESS_OF_ITS_OWN = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("UPDATE notes SET text = 'theirs'")
connection.commit()
connection.close()
"""


@pytest.mark.parametrize("is_copied", [False, True])
async def test_what_others_write_without_our_log_counts_and_stays(
    path: Path, is_copied: bool
) -> None:
    """Whoever removes the log of a file that is open has the next process begin another,
    and SQLite would write what it has over that.
    """
    database = Database(path, [FIRST], when_damaged=WhenDamaged.REFUSE)
    await database.run(lambda raw: raw.execute("INSERT INTO notes VALUES ('ours')"))
    copy = path.with_name("copy.sqlite")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink()
    path.write_bytes(copy.read_bytes())
    if not is_copied:
        command = [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN, str(path)]
        subprocess.run(command, check=True)
    expected = ["ours" if is_copied else "theirs"]
    assert await database.run(read) == expected
    await database.run(lambda raw: raw.execute("INSERT INTO notes VALUES ('more')"))
    await database.close()
    with opened(path, [FIRST]) as connection:
        assert read(connection) == [*expected, "more"]
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


@pytest.mark.parametrize(
    ("when_damaged", "expected"), [(WhenDamaged.SET_ASIDE, []), (WhenDamaged.REFUSE, ["a"])]
)
async def test_a_file_that_is_gone_is_begun_anew_where_it_may_be_lost(
    path: Path, when_damaged: WhenDamaged, expected: list[str]
) -> None:
    database = Database(path, [FIRST], when_damaged=when_damaged)
    await database.run(lambda raw: raw.execute("INSERT INTO notes VALUES ('a')"))
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink()
    assert await database.run(read) == expected
    await database.close()
    assert path.exists() is (when_damaged is WhenDamaged.SET_ASIDE)


def damage(path: Path, is_whole_garbage: bool) -> None:
    """The whole file, or its last pages, which hold the table's rows."""
    write(path, *("x" * 1000 for _ in range(40)))
    content = path.read_bytes()
    keep = 0 if is_whole_garbage else 3 * 4096
    path.write_bytes(content[:keep] + b"\xa5" * (len(content) - keep))
