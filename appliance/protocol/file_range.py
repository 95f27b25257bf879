"""A part of a file. Knows no file and no content."""

from __future__ import annotations

from appliance.protocol.record import Record


class FileRange(Record, frozen=True):
    """Bytes from `first` on."""

    first: int
    num_bytes: int

    @property
    def end(self) -> int:
        """The first one behind it."""
        return self.first + self.num_bytes
