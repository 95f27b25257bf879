"""The tables of stored responses. Knows no statement but those that make them.

A response refers to the one that it continues. Only one that nothing continues is ever
removed (`num_next` is 0), so that no chain loses its beginning.
"""

from __future__ import annotations

MIGRATIONS = (
    """
    CREATE TABLE responses (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        created_s REAL NOT NULL,
        previous INTEGER REFERENCES responses,
        num_next INTEGER NOT NULL DEFAULT 0,
        conversation_id TEXT,
        record BLOB NOT NULL,
        has_ended INTEGER NOT NULL,
        is_deleted INTEGER NOT NULL DEFAULT 0  -- by its owner; others continue it
    );
    CREATE INDEX last_responses ON responses (created_s) WHERE num_next = 0;
    CREATE INDEX next_responses ON responses (previous) WHERE previous IS NOT NULL;

    CREATE TABLE input_items (
        number INTEGER PRIMARY KEY,
        response INTEGER NOT NULL REFERENCES responses ON DELETE CASCADE,
        id TEXT NOT NULL,
        content BLOB NOT NULL
    );
    CREATE INDEX items_of_response ON input_items (response);

    CREATE TABLE conversations (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        created_s REAL NOT NULL,
        used_s REAL NOT NULL,
        metadata BLOB NOT NULL
    );
    CREATE INDEX conversations_by_use ON conversations (used_s);

    CREATE TABLE conversation_items (
        number INTEGER PRIMARY KEY,
        conversation INTEGER NOT NULL REFERENCES conversations ON DELETE CASCADE,
        id TEXT NOT NULL,
        content BLOB NOT NULL
    );
    CREATE INDEX items_of_conversation ON conversation_items (conversation);
    """,
)
