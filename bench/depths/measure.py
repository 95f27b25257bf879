"""One server after the other: prompts that it is told first, then all streams at once.

Knows no picture. A server is alone on the machine while it is measured, because several
of the servers that are compared here keep their threads busy while they wait.
"""

from __future__ import annotations

import asyncio
import datetime
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from appliance.cli.bench.stream import Answer, Endpoint, Request
from appliance.cli.bench.words import random_text
from bench.load.rounds import machine
from bench.load.servers import Command, CpuUse, Server, started, wait_until_idle

_WARM_UP_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class Point:
    """Tokens per second of all streams together, while all of them were decoding."""

    server: str
    round_number: int
    depth: int  # tokens of its own that each stream had in front of its answer
    num_streams: int
    tokens_per_s: float
    foreign_share: float  # of the machine's CPU time, taken by other processes meanwhile


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that was measured, and on what; `date` as in ISO 8601."""

    date: str
    machine: str
    num_cpus: int
    model: str
    commands: dict[str, str]
    points: list[Point] = field(default_factory=list)

    @classmethod
    def empty(cls, commands: Sequence[Command]) -> Results:
        now = datetime.datetime.now(datetime.timezone.utc)
        return cls(
            date=now.isoformat(timespec="seconds"),
            machine=machine(),
            num_cpus=psutil.cpu_count() or 1,
            model=commands[0].model.name,
            commands={command.name: command.line for command in commands},
        )

    def of(self, server: str, depth: int, num_streams: int) -> list[float]:
        """The rates of all rounds."""
        return [
            point.tokens_per_s
            for point in self.points
            if (point.server, point.depth, point.num_streams) == (server, depth, num_streams)
        ]

    @property
    def depths(self) -> list[int]:
        return sorted({point.depth for point in self.points})

    @property
    def stream_counts(self) -> list[int]:
        return sorted({point.num_streams for point in self.points})

    def save(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> Results:
        """Raises `OSError` or `msgspec.ValidationError`."""
        return msgspec.json.decode(path.read_bytes(), type=cls)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is measured: each number of streams over each depth, while all of them
    together have at most `most_cells` tokens.
    """

    depths: Sequence[int]
    stream_counts: Sequence[int]
    num_new_tokens: int
    most_cells: int
    idle_wait_s: float

    def measure(self, commands: Sequence[Command], num_rounds: int) -> Iterator[Point]:
        """Who goes first changes from round to round.

        Raises `ServerFailed` or `RequestFailed`.
        """
        for round_number in range(1, num_rounds + 1):
            first = (round_number - 1) % len(commands)
            for command in (*commands[first:], *commands[:first]):
                with started(command) as server:
                    yield from self._of_server(server, round_number)

    def _of_server(self, server: Server, round_number: int) -> Iterator[Point]:
        rng = random.Random(f"depths {round_number}")  # the same texts for every server
        warm_up = [random_text(rng, _WARM_UP_TOKENS) for _ in range(max(self.stream_counts))]
        asyncio.run(_all_at_once(server.endpoint, warm_up, self.num_new_tokens))
        for depth in self.depths:
            counts = [n for n in self.stream_counts if n * depth <= self.most_cells]
            prompts = [random_text(rng, max(depth, 8)) for _ in range(max(counts, default=0))]
            for prompt in prompts if depth else ():
                asyncio.run(_all_at_once(server.endpoint, [prompt], 1))
            for num_streams in counts:
                wait_until_idle(self.idle_wait_s, server)
                before = CpuUse.now(server)
                answers = asyncio.run(
                    _all_at_once(server.endpoint, prompts[:num_streams], self.num_new_tokens)
                )
                use = CpuUse.now(server).since(before)
                yield Point(
                    server=server.command.name,
                    round_number=round_number,
                    depth=depth,
                    num_streams=num_streams,
                    tokens_per_s=decode_rate(answers),
                    foreign_share=use.share(use.foreign_s),
                )


def decode_rate(answers: Sequence[Answer]) -> float:
    """Tokens per second of all answers together, from the last first token to the first
    end: while all of them were decoding.

    Raises `ValueError` if there was no such time.
    """
    begins_s = max(answer.arrivals_s[0] for answer in answers)
    ends_s = min(answer.ended_s for answer in answers)
    if ends_s <= begins_s:
        raise ValueError("the first answer had ended before the last one began")
    num_tokens = 0.0
    for answer in answers:
        # a piece of text may hold several tokens
        num_pieces = sum(begins_s < at_s <= ends_s for at_s in answer.arrivals_s)
        num_tokens += answer.num_tokens * num_pieces / len(answer.arrivals_s)
    return num_tokens / (ends_s - begins_s)


async def _all_at_once(
    endpoint: Endpoint, prompts: Sequence[str], num_new_tokens: int
) -> list[Answer]:
    return await asyncio.gather(
        *(
            endpoint.complete(Request(f"stream {number}", prompt, num_new_tokens))
            for number, prompt in enumerate(prompts, 1)
        )
    )
