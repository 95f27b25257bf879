"""Every request and how it ended, and what of that should not have been.

Knows no server. A request belongs to the phase in which it began and to the one in which it
ended: in a calm one, who asks is answered.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.soak.judging import Ending, Verdict

# Which say that the caller asks too much: at any time, and rightly so.
LIMITS = frozenset({"rate_limit_exceeded", "queue_full", "rate_limit_error"})
# Which say that a request is wrong, or its caller a stranger.
_MISTAKES = range(400, 500)


@dataclass(frozen=True)
class Phase:
    """`fault` is empty in a calm one."""

    number: int
    fault: str = ""
    is_restart: bool = False  # the server is stopped in it, and started again
    is_kill: bool = False  # the server is killed in it

    @property
    def is_calm(self) -> bool:
        return not self.fault


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One request. Times are of `time.monotonic`."""

    what: str
    began: Phase
    ended: Phase
    began_s: float
    ended_s: float
    status: int  # 0: there was none
    verdict: Verdict
    expected_status: int = 200  # what the request deserves
    num_choices: int = 1

    @property
    def finding(self) -> str | None:
        """Why it should not have been."""
        ending = self.verdict.ending
        if ending.is_finding:
            return ending.value
        if ending in (Ending.LEFT, Ending.UNREACHED):
            return None
        if self.expected_status != 200 and self.status == 200:
            return "answered, though it was wrong"
        if self.status == self.expected_status and ending is not Ending.BROKEN:
            return None
        if self._is_limited:
            return None
        if self.status in _MISTAKES:
            return "told that it was wrong"
        if self.began == self.ended and self.began.is_calm:
            return "not answered in a calm phase"
        return None

    @property
    def _is_limited(self) -> bool:
        return self.status == 429 or self.verdict.code in LIMITS


@dataclass
class Ledger:
    """Of one run."""

    phase: Phase = Phase(0)
    entries: list[Entry] = field(default_factory=list)

    def begin(self, fault: str = "", *, is_restart: bool = False, is_kill: bool = False) -> None:
        """The next phase."""
        self.phase = Phase(self.phase.number + 1, fault, is_restart, is_kill)

    @property
    def findings(self) -> list[str]:
        found = []
        for entry in self.entries:
            if (reason := entry.finding) is not None:
                phases = " to ".join(
                    dict.fromkeys(each.fault or "calm" for each in (entry.began, entry.ended))
                )
                verdict = entry.verdict
                found.append(
                    f"{entry.what} in {phases} after {entry.ended_s - entry.began_s:.1f} s: "
                    f"{reason}: {entry.status} {verdict.code} {verdict.detail}"
                )
        return found

    def endings(self) -> Counter[str]:
        """Errors by their codes, as far as their formats have such."""
        return Counter(
            f"{entry.verdict.ending.value} {entry.verdict.code}".strip() for entry in self.entries
        )
