"""What `appliance doctor` looks at: one module per subject, one function per line of its table.

Knows no output.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Status(str, enum.Enum):
    OK = "ok"
    WARN = "warn"  # serving works, worse than it could
    FAIL = "FAIL"  # serving is impossible


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line: what was found, what to do about it where that is not well, and the
    same as JSON data.
    """

    name: str
    status: Status
    finding: str
    way_out: str = ""
    data: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.status is Status.OK or self.way_out, self
