"""`appliance keys`: makes, lists, changes and ends the keys of a state folder.

Knows no running server: it sees within a second what is done here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from appliance.cli.keys.arguments import ACTIONS
from appliance.cli.tables.table import table
from appliance.database.files import opened
from appliance.errors import BadSettings
from appliance.gateway.accounts.key_description import description_of, state_of
from appliance.gateway.accounts.key_records import (
    FILE_NAME,
    MIGRATIONS,
    TERM_NAMES,
    KeyRecord,
    KeyTerms,
    all_keys,
    change_terms,
    create_key,
    key_named,
    revoke_key,
    rotate_key,
    tokens_of_day,
    utc,
)
from appliance.gateway.accounts.key_text import PREFIX
from appliance.gateway.accounts.used import Clocks
from appliance.settings import ServeSettings

_ROOT = 0
_HEAD = (
    "name",
    "key",
    "state",
    "models",
    "requests/min",
    "tokens/min",
    "tokens/day",
    "used today",
    "at once",
    "priority",
    "admin",
)


@dataclass(frozen=True)
class _Report:
    """What is printed once the command has been done."""

    lines: list[str]
    notes: list[str] = field(default_factory=list)  # for people, on standard error


@dataclass(frozen=True)
class _Asked:
    """A command, with the file open."""

    connection: sqlite3.Connection
    name: str
    terms: dict[str, Any]  # those that were given
    as_json: bool


def run(settings: ServeSettings, args: argparse.Namespace) -> int:
    """Raises `BadSettings` for arguments that make no sense together, and what reading and
    writing the file raises.
    """
    given = {name: value for name, value in vars(args).items() if name in TERM_NAMES}
    if args.action == "list" and args.name is not None:
        raise BadSettings(f"list takes no name: use 'appliance keys show {args.name}'.")
    if args.action != "list" and args.name is None:
        raise BadSettings(f"Whose key? Use 'appliance keys {args.action} NAME'.")
    if given and args.action not in ("create", "set"):
        raise BadSettings(f"{args.action} changes no terms. Use 'appliance keys set NAME'.")
    path = settings.state_dir / FILE_NAME
    if args.action != "create" and not path.exists():
        if args.action == "list" and settings.state_dir.is_dir():
            print("[]" if args.json else f"There are no keys in {settings.state_dir}.")
            return 0
        raise BadSettings(
            f"There are no keys in {settings.state_dir}: is it the server's --state-dir?"
        )
    with _opened(path) as connection:
        report = _DO[args.action](_Asked(connection, args.name or "", given, args.json))
    # only now is it on the disk
    for line in report.lines:
        print(line)
    for note in report.notes:
        print(note, file=sys.stderr)
    return 0


def _create(asked: _Asked) -> _Report:
    expires_s = asked.terms.get("expires_s")
    if expires_s is not None and expires_s <= time.time():
        raise BadSettings("--expires must lie in the future: this key would open nothing.")
    is_first = not all_keys(asked.connection)
    terms = KeyTerms().changed(asked.terms)
    report = _new(asked, create_key(asked.connection, asked.name, terms, time.time()))
    if is_first:
        report.notes.append(
            "It is the first one: from now on a server of this --state-dir answers nobody without "
            "a key."
        )
    return report


def _rotate(asked: _Asked) -> _Report:
    return _new(asked, rotate_key(asked.connection, asked.name, time.time()))


def _new(asked: _Asked, key: str) -> _Report:
    """The key alone on standard output, for a pipe."""
    return _Report(
        [json.dumps({"name": asked.name, "key": key}) if asked.as_json else key],
        [f"This is the key of '{asked.name}'. It is shown this once, and only its hash is kept."],
    )


def _set(asked: _Asked) -> _Report:
    if not asked.terms:
        raise BadSettings("Give what is to change, such as --tokens-per-day 100000.")
    terms = key_named(asked.connection, asked.name).terms.changed(asked.terms)
    change_terms(asked.connection, asked.name, terms)
    return _show(asked)


def _revoke(asked: _Asked) -> _Report:
    revoke_key(asked.connection, asked.name, time.time())
    return _Report([], [f"Revoked '{asked.name}': its key opens nothing any more."])


def _list(asked: _Asked) -> _Report:
    used = tokens_of_day(asked.connection, Clocks().day)
    records = all_keys(asked.connection)
    if asked.as_json:
        return _Report([json.dumps([_as_json(record, used) for record in records], indent=2)])
    return _Report([table([_HEAD, *(_row(record, used) for record in records)])])


def _show(asked: _Asked) -> _Report:
    record = key_named(asked.connection, asked.name)
    used = tokens_of_day(asked.connection, Clocks().day)
    if asked.as_json:
        return _Report([json.dumps(_as_json(record, used), indent=2)])
    rows = [*zip(_HEAD, _row(record, used), strict=True), ("created", utc(record.created_s))]
    if record.rotated_s is not None:
        rows.append(("rotated", utc(record.rotated_s)))
    if record.terms.expires_s is not None:
        rows.append(("expires", utc(record.terms.expires_s)))
    width = max(len(name) for name, _ in rows)
    return _Report([f"{name.ljust(width)}  {value}" for name, value in rows])


_DO = {
    "create": _create,
    "list": _list,
    "show": _show,
    "set": _set,
    "revoke": _revoke,
    "rotate": _rotate,
}
assert _DO.keys() == ACTIONS.keys()


def _row(record: KeyRecord, used: dict[str, int]) -> tuple[str, ...]:
    limits = record.terms.limits
    numbers = (limits.requests_per_minute, limits.tokens_per_minute, limits.tokens_per_day)
    return (
        record.name,
        f"{PREFIX}{record.key_id}-...",
        state_of(record, time.time()).value,
        "all" if limits.models is None else ",".join(limits.models),
        *map(_number, numbers),
        _number(used.get(record.name)),
        _number(limits.concurrent_requests),
        str(record.terms.priority),
        "yes" if record.terms.is_admin else "-",
    )


def _as_json(record: KeyRecord, used: dict[str, int]) -> dict[str, Any]:
    described = description_of(record, used.get(record.name, 0), time.time())
    plain: dict[str, Any] = msgspec.to_builtins(described)
    return plain


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """As root, the files become those of the folder's owner: a service that runs as
    another user could not read them.
    """
    with opened(path, MIGRATIONS) as connection:
        yield connection
    if os.geteuid() == _ROOT:
        owner = path.parent.stat()
        for file in path.parent.glob(f"{path.name}*"):
            os.chown(file, owner.st_uid, owner.st_gid)
