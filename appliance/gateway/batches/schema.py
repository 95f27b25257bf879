"""The tables of files and batches, and how a row and a record become each other.

Knows no query.
"""

from __future__ import annotations

import dataclasses
import sqlite3

import msgspec

from appliance.gateway.batches.records import (
    UNFINISHED,
    Batch,
    BatchStatus,
    LineFault,
    StoredFile,
)

_FIRST = """
CREATE TABLE files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    caller TEXT NOT NULL,
    name TEXT NOT NULL,
    purpose TEXT NOT NULL,
    num_bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE INDEX files_of_caller ON files (caller, seq);
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    caller TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    input_file TEXT NOT NULL,
    completion_window TEXT NOT NULL,
    metadata TEXT NOT NULL,
    output_lifetime_s INTEGER NOT NULL,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    reached TEXT NOT NULL DEFAULT '{}',
    faults TEXT NOT NULL DEFAULT '[]',
    output_file TEXT,
    error_file TEXT,
    num_lines INTEGER NOT NULL DEFAULT 0,
    num_completed INTEGER NOT NULL DEFAULT 0,
    num_failed INTEGER NOT NULL DEFAULT 0,
    num_result_bytes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX batches_of_caller ON batches (caller, seq);
CREATE INDEX batches_by_status ON batches (status, seq);
CREATE TABLE lines (
    batch TEXT NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    position INTEGER NOT NULL,
    num_bytes INTEGER NOT NULL,
    custom_id TEXT NOT NULL,
    is_failure INTEGER,
    result BLOB,
    PRIMARY KEY (batch, number)
);
CREATE INDEX undone_lines ON lines (batch, number) WHERE result IS NULL;
"""

MIGRATIONS = (_FIRST,)
UNFINISHED_SQL = "(" + ", ".join(f"'{status.value}'" for status in UNFINISHED) + ")"


def insert_file(connection: sqlite3.Connection, file: StoredFile) -> None:
    connection.execute(
        "INSERT INTO files (id, caller, name, purpose, num_bytes, created_at, expires_at) "
        "VALUES (:id, :caller_id, :name, :purpose, :num_bytes, :created_at, :expires_at)",
        dataclasses.asdict(file),
    )


def file_of(row: sqlite3.Row) -> StoredFile:
    return StoredFile(
        id=row["id"],
        caller_id=row["caller"],
        name=row["name"],
        purpose=row["purpose"],
        num_bytes=row["num_bytes"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )


def batch_of(row: sqlite3.Row) -> Batch:
    return Batch(
        id=row["id"],
        caller_id=row["caller"],
        endpoint=row["endpoint"],
        input_file_id=row["input_file"],
        completion_window=row["completion_window"],
        metadata=msgspec.json.decode(row["metadata"]),
        output_lifetime_s=row["output_lifetime_s"],
        status=BatchStatus(row["status"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        reached=msgspec.json.decode(row["reached"], type=dict[BatchStatus, int]),
        faults=msgspec.json.decode(row["faults"], type=list[LineFault]),
        output_file_id=row["output_file"],
        error_file_id=row["error_file"],
        num_lines=row["num_lines"],
        num_completed=row["num_completed"],
        num_failed=row["num_failed"],
    )
