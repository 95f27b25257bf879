"""What a fault is: begun, held, undone; and how soon all must be well again.

Knows no particular one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.soak.house import House


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`befall` does it, within whose context it lasts; what it does blocks. It raises
    `AssertionError` where nothing came of it.
    """

    name: str
    befall: Callable[[House, random.Random], AbstractContextManager[None]]
    hold_s: float = 3.0
    back_s: float = 60.0  # from its end until everybody is served, on a busy machine
    is_restart: bool = False  # the server is stopped, and started again, before it is held
    needs: str = ""  # the name of what `House` may lack

    def why_not(self, house: House) -> str | None:
        return house.missing.get(self.needs)
