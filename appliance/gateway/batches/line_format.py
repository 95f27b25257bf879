"""The seam between batches and the wire format of their lines.

Knows no format.
"""

from __future__ import annotations

from typing import Protocol

from appliance.gateway.accounts.caller import Caller
from appliance.gateway.batches.records import LineResult


class BadLine(Exception):
    """A line is no request of its batch."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class LineFormat(Protocol):
    """How a line of a batch is read, answered, and what is written of it."""

    max_line_bytes: int

    def custom_id(self, line: bytes, endpoint: str) -> str:
        """Of a line that asks for something at the batch's endpoint; called in a thread.

        Raises `BadLine`. Whether the request itself is valid shows when it is answered.
        """

    async def answer(self, caller: Caller, endpoint: str, line: bytes) -> LineResult:
        """Of a line that `custom_id` has taken. Whatever is wrong with the request is its
        result.

        Raises `Unavailable` or `QueueFull` where it may be answered later.
        """

    def unanswered(self, custom_id: str, code: str, message: str) -> bytes:
        """What the result files hold of a line that was not answered, and why."""
