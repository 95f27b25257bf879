"""What `appliance doctor` looks at:
one module per subject, one function per line of its table.

Knows no output.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class CheckStatus(str, enum.Enum):
    OK = "ok"
    WARN = "warn"  # serving works, worse than it could
    FAIL = "FAIL"  # serving is impossible


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the table."""

    name: str
    status: CheckStatus
    finding: str
    way_out: str = ""  # what to do about it; needed unless the status is OK
    data: Mapping[str, object] = field(default_factory=dict)  # the same for --json

    def __post_init__(self) -> None:
        assert self.status is CheckStatus.OK or self.way_out, self
