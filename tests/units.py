"""What stays together where `pytest -n 2` divides the tests between two processes, and in what
order it is handed out. Imported by such a run alone.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# whose files share parametrized fixtures that cost more than a file's tests: pytest groups
# the tests of all of them by parameter
_ROOMS = ("tests/vocabularies/",)


class UnitScheduling(LoadScopeScheduling):
    """A file is a unit, and a room of `_ROOMS` is one. In the order of a run in one process, so
    that no test sees another order of things than there.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        for room in _ROOMS:
            if nodeid.startswith(room):
                return room
        return nodeid.partition("::")[0]
