"""Model files of which workers died, and which are left alone for a while.

Knows no process and no plan. Kept by one server: the next start begins anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from appliance.launch.files import PreparedModel

_log = logging.getLogger(__name__)
QUARANTINED_FOR_S = 3600.0


class Quarantine:
    """`clock` is in s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until_s: dict[Path, float] = {}

    def put(self, file: Path, reason: str) -> None:
        self._until_s[file] = self._clock() + QUARANTINED_FOR_S
        minutes = round(QUARANTINED_FOR_S / 60)
        _log.error("%s is not served for %d minutes: %s", file.name, minutes, reason)

    def has(self, file: Path) -> bool:
        return self._until_s.get(file, 0.0) > self._clock()

    def without(self, model: PreparedModel) -> PreparedModel:
        """The model's other files; all of them where no other is left, for one that dies
        now and then is better than none.
        """
        left = tuple(header for header in model.headers if not self.has(header.path))
        return replace(model, headers=left) if left else model
