"""What the scan sends, before it is bytes: who asks for what, with which headers.

Knows no route.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field, replace


class Who(enum.Enum):
    NOBODY = "no key"
    GUESSER = "a wrong key"
    HOLDER = "a key"
    OTHER = "another key"
    ADMIN = "an administrator's key"

    @property
    def is_known(self) -> bool:
        return self not in (Who.NOBODY, Who.GUESSER)


GUESS = b"ak-00000000-" + b"0" * 32


@dataclass(frozen=True, kw_only=True)
class Request:
    """One, with all its lines as they are sent."""

    method: bytes
    target: bytes
    headers: tuple[bytes, ...] = ()  # lines, beside those that every request here has
    body: bytes = b""
    who: Who = Who.NOBODY
    what: str = ""  # what is odd about it
    is_at_open_path: bool = False  # for nobody the same answer as for everybody

    def __str__(self) -> str:
        target = self.target[:80].decode("latin-1")
        return f"{self.method.decode('latin-1')} {target} [{self.what or 'plain'}] {self.who.value}"

    def data(self, host: bytes, keys: Keys) -> bytes:
        lines = [self.method + b" " + self.target + b" HTTP/1.1"]
        if not _names(self.headers, b"host"):
            lines.append(b"Host: " + host)
        if (key := keys.of(self.who)) is not None:
            lines.append(b"Authorization: Bearer " + key)
        lines += self.headers
        if self.body and not _names(self.headers, b"content-length", b"transfer-encoding"):
            lines.append(b"Content-Length: %d" % len(self.body))
        if self.body and not _names(self.headers, b"content-type"):
            lines.append(b"Content-Type: application/json")
        return b"\r\n".join([*lines, b"", self.body])

    def asked_by(self, who: Who) -> Request:
        return replace(self, who=who)


@dataclass(frozen=True)
class Keys:
    """Those that are known."""

    by_holder: dict[Who, bytes] = field(default_factory=dict)

    def of(self, who: Who) -> bytes | None:
        return GUESS if who is Who.GUESSER else self.by_holder.get(who)

    @property
    def holders(self) -> tuple[Who, ...]:
        return tuple(self.by_holder)


def _names(lines: Sequence[bytes], *names: bytes) -> bool:
    return any(line.partition(b":")[0].strip().lower() in names for line in lines)
