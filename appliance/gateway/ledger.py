"""Who has how much of the memory budget, and who was promised what others still hold.

Knows no model and no process.
"""

from __future__ import annotations


class Ledger:
    """A budget in bytes, shared by holders with a name.

    What is held never exceeds it, nor does what is to come of it.

    A holder that is leaving still holds its bytes until they are released, but they may
    be promised to another one already. All bytes are predictions: what a plan says that
    a model needs.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._held: dict[str, int] = {}
        self._leaving: set[str] = set()
        self._promised: dict[str, int] = {}

    @property
    def held_bytes(self) -> int:
        return sum(self._held.values())

    @property
    def free_bytes(self) -> int:
        """What nobody holds now."""
        return self.total_bytes - self.held_bytes

    @property
    def room_bytes(self) -> int:
        """What can be promised: free once everybody who is leaving has left, and not
        promised yet.
        """
        leaving_bytes = sum(self._held[name] for name in self._leaving)
        return self.free_bytes + leaving_bytes - sum(self._promised.values())

    def held_by(self, name: str) -> int:
        return self._held.get(name, 0)

    def promise(self, name: str, num_bytes: int) -> None:
        assert name not in self._held, name
        assert name not in self._promised, name
        assert 0 <= num_bytes <= self.room_bytes, (name, num_bytes, self.room_bytes)
        self._promised[name] = num_bytes

    def take(self, name: str) -> bool:
        """Makes a promise good, if enough is free now."""
        if self._promised[name] > self.free_bytes:
            return False
        self._held[name] = self._promised.pop(name)
        return True

    def leave(self, name: str) -> None:
        """From now on the bytes that `name` holds may be promised to others."""
        assert name in self._held, name
        self._leaving.add(name)

    def release(self, name: str) -> None:
        """`name` has nothing any more, and is promised nothing."""
        self._held.pop(name, None)
        self._promised.pop(name, None)
        self._leaving.discard(name)
