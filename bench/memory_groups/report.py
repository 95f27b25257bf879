"""Results of the cases: kept as JSON, shown as a table. Measures and judges nothing."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.memory_groups.cases import Better, GroupCase
from bench.memory_groups.trial import GroupTrial

_MIB = 1 << 20
_HEAD = (
    "| limit, MiB | model | served | need, MiB | held, MiB | speed | own plan | next better "
    "| its need | its speed | would it have survived? |"
)


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """One case; needs are what a plan claims beside its headroom."""

    limit_bytes: int
    model: str
    plan: dict[str, Any]
    own: GroupTrial
    better: Better | None
    forced: GroupTrial | None

    @classmethod
    def of(
        cls,
        case: GroupCase,
        plan: Mapping[str, Any],
        own: GroupTrial,
        better: Better | None,
        forced: GroupTrial | None,
    ) -> CaseResult:
        names = ("quantization", "kv_type", "ctx", "slots", "kv_cells", "need", "budget")
        return cls(
            limit_bytes=case.limit_bytes,
            model=case.model,
            plan={name: plan[name] for name in names},
            own=own,
            better=better,
            forced=forced,
        )

    def line(self) -> str:
        """A row of the table."""
        plan, better = self.plan, self.better
        cells = [
            f"{self.limit_bytes / _MIB:.0f}",
            self.model,
            f"{plan['quantization']}, {plan['kv_cells']} x {plan['kv_type']}, {plan['slots']} "
            "slots",
            f"{plan['need']['claimed_bytes'] / _MIB:.0f}",
            _held(self.own),
            _speed(self.own),
            self.own.verdict.reason,
            f"{better.quantization}, {better.ctx} x {better.kv_type}, {better.slots} slots"
            if better
            else "none",
            f"{better.need_bytes / _MIB:.0f}" if better else "",
            _speed(self.forced) if self.forced else "",
            self.forced.verdict.reason if self.forced else "",
        ]
        return f"| {' | '.join(cells)} |"


@dataclass
class GroupResults:
    """Of one run, with its day."""

    day: str
    cases: list[CaseResult]

    @classmethod
    def empty(cls) -> GroupResults:
        return cls(datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(), [])

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1))


def markdown(results: GroupResults) -> str:
    own = [case.own.verdict.survived for case in results.cases]
    forced = [case.forced.verdict.survived for case in results.cases if case.forced]
    rows = [
        _HEAD,
        "|" + "---|" * _HEAD.count(" | ") + "---|",
        *(case.line() for case in results.cases),
    ]
    summary = (
        f"{sum(own)} of {len(own)} plans survived; {len(forced) - sum(forced)} of {len(forced)} "
        "next better candidates would not have."
    )
    return "\n".join([*rows, "", summary])


def _held(trial: GroupTrial) -> str:
    """The most that was held without a limit, page cache of libraries included."""
    held = [phase.used_bytes for phase in trial.phases if phase.limit_bytes is None]
    return f"{max(held) / _MIB:.0f}" if held else ""


def _speed(trial: GroupTrial) -> str:
    return "" if trial.verdict.speed is None else f"{trial.verdict.speed:.2f}"
