"""Cases by their number: each is a file with faults, the same at every run, and what became
of them.

Knows no fault and no process.
"""

from __future__ import annotations

import collections
import functools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.launch.machine import Machine
from tests.mutants.gguf_parts import Parts, read_parts
from tests.mutants.mutations import mutant
from tests.mutants.trial import Children, Outcome, Verdict, try_file


@dataclass(frozen=True)
class Case:
    """A file with faults."""

    number: int
    source: str  # the sound file's name
    what: str  # was done to it
    data: bytes


@dataclass
class Findings:
    """What a run found."""

    outcomes: collections.Counter[Outcome] = field(default_factory=collections.Counter)
    harmful: list[tuple[Case, Verdict]] = field(default_factory=list)


def case_of(sources: Sequence[Path], seed: int, number: int) -> Case:
    """Deterministic."""
    chance = random.Random(f"{seed}:{number}")
    source = chance.choice(sources)
    what, data = mutant(_parts(source), chance)
    return Case(number, source.name, what, data)


@functools.cache
def _parts(source: Path) -> Parts:
    return read_parts(source)


async def run_cases(
    cases: Iterable[Case],
    children: Children,
    machine: Machine,
    folder: Path,
    findings: Findings,
) -> None:
    """One after the other."""
    for case in cases:
        path = folder / f"mutant-{case.number}.gguf"
        path.write_bytes(case.data)
        verdict = await try_file(path, children, machine)
        path.unlink()
        findings.outcomes[verdict.outcome] += 1
        if not verdict.outcome.is_allowed:
            findings.harmful.append((case, verdict))
