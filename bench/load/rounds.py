"""The run: both servers up, one under load at a time, by turns, round after round.

Knows no scenario's content.

Both servers run side by side because a server that only waits takes no CPU time (that
is measured, and reported), and because the two measurements that are compared then lie
seconds apart, on the same machine in the same state. Every round starts new servers and
runs the scenarios in one order, so that each scenario finds caches with the same
history in every round; who goes first changes from one scenario, and one round, to the
next.
"""

from __future__ import annotations

import asyncio
import datetime
import platform
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import psutil

from appliance.cli.bench.figures import Comparison
from appliance.cli.bench.stream import Answer
from bench.load.prompts import RealPrompts
from bench.load.scenarios import SCENARIOS, Load, Scenario, Sizes, warm_up
from bench.load.servers import Command, CpuUse, Server, started, wait_until_idle

OURS, PEER = "ours", "peer"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One scenario on one server in one round;
    shares are of the machine's CPU time while it ran.

    Times of `answers` count from the first request on.
    """

    scenario: str
    server: str
    round_number: int
    figures: dict[str, float]
    answers: list[Answer]
    foreign_share: float
    idle_server_share: float
    generator_share: float


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that was measured, and on what; `date` as in ISO 8601."""

    date: str
    machine: str
    num_cpus: int
    model: str
    commands: dict[str, str]
    sizes: Sizes
    measurements: list[Measurement] = field(default_factory=list)

    @property
    def num_rounds(self) -> int:
        return max((each.round_number for each in self.measurements), default=0)

    def of(self, scenario: str, server: str) -> list[Measurement]:
        return [
            each
            for each in self.measurements
            if each.scenario == scenario and each.server == server
        ]

    def comparisons(self, scenario: Scenario) -> list[Comparison]:
        """Over the rounds that both servers have finished;
        none where there are none.
        """
        ours, peer = self.of(scenario.name, OURS), self.of(scenario.name, PEER)
        pairs = list(zip(ours, peer, strict=False))  # an interrupted run may have one more of one
        return [
            Comparison.of(
                figure,
                [mine.figures[figure.name] for mine, _ in pairs],
                [its.figures[figure.name] for _, its in pairs],
            )
            for figure in scenario.all_figures
            if pairs
        ]

    def save(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> Results:
        return msgspec.json.decode(path.read_bytes(), type=cls)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What to do; `scenarios` in this order, in each of so many rounds."""

    ours: Command
    peer: Command
    num_rounds: int
    sizes: Sizes
    real_prompts: RealPrompts | None
    scenarios: Sequence[Scenario] = SCENARIOS
    seed: str = "1"
    idle_wait_s: float = 60.0

    def empty_results(self) -> Results:
        now = datetime.datetime.now(datetime.timezone.utc)
        commands = {OURS: self.ours.line, PEER: self.peer.line}
        return Results(
            date=now.isoformat(timespec="seconds"),
            machine=machine(),
            num_cpus=psutil.cpu_count() or 1,
            model=self.ours.model.name,
            commands=commands,
            sizes=self.sizes,
        )

    def measure(self) -> Iterator[Measurement]:
        """One after the other, as they are done.

        Raises `ServerFailed` or `RequestFailed`.
        """
        for round_number in range(1, self.num_rounds + 1):
            with started(self.ours) as ours, started(self.peer) as peer:
                for server in (ours, peer):
                    asyncio.run(warm_up(self._load(server, f"{round_number} warm-up")))
                for index, scenario in enumerate(self.scenarios):
                    turns = [(ours, peer), (peer, ours)]
                    for loaded, idle in turns if (round_number + index) % 2 else reversed(turns):
                        wait_until_idle(self.idle_wait_s, loaded, idle)
                        yield self._one(scenario, round_number, loaded, idle)

    def _one(
        self, scenario: Scenario, round_number: int, loaded: Server, idle: Server
    ) -> Measurement:
        load = self._load(loaded, f"{round_number} {scenario.name}")
        before = CpuUse.now(loaded, idle)
        observed = asyncio.run(scenario.run(load))
        use = CpuUse.now(loaded, idle).since(before)
        return Measurement(
            scenario=scenario.name,
            server=loaded.command.name,
            round_number=round_number,
            figures=observed.all_figures,
            answers=_from_first_request(observed.answers),
            foreign_share=use.share(use.foreign_s),
            idle_server_share=use.share(use.idle_s),
            generator_share=use.share(use.generator_s),
        )

    def _load(self, server: Server, what: str) -> Load:
        return Load(server, random.Random(f"{self.seed} {what}"), self.sizes, self.real_prompts)


def _from_first_request(answers: list[Answer]) -> list[Answer]:
    """The same answers in time since the first request,
    to the tenth of a millisecond.
    """
    first_s = min(answer.sent_s for answer in answers)
    return [
        replace(
            answer,
            sent_s=round(answer.sent_s - first_s, 4),
            arrivals_s=[round(arrived_s - first_s, 4) for arrived_s in answer.arrivals_s],
        )
        for answer in answers
    ]


def machine() -> str:
    """The CPU, as it names itself."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
