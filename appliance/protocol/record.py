"""What all records have in common that cross between rooms and processes.

Knows none of them.
"""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base: immutable, tagged with its class name, encoded without field names."""
