"""Two trees of the appliance side by side, on one model: their rates, by turns.

Knows no release and no verdict.
"""

from __future__ import annotations

import asyncio
import random
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.cli.bench.stream import Request
from appliance.cli.bench.words import random_text
from bench.gate.verdict import Comparison
from bench.load.servers import Command, CpuUse, Server, started

_NUM_STREAMS = (1, 8)
_PROMPT_TOKENS = 32
_CTX = 2048
_FEWEST_TOKENS, _MOST_TOKENS = 16, 1536  # of an answer


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long is measured."""

    num_rounds: int
    measured_s: float  # about, each time


SHORT = Pace(num_rounds=7, measured_s=1.0)
FULL = Pace(num_rounds=15, measured_s=3.0)


def command(name: str, tree: Path, model: Path, folder: Path) -> Command:
    """Serves `model` with the code in `tree` and the libraries of this Python, so that
    both have the same llama.cpp; nothing is measured at the start.
    """
    serve = [sys.executable, "-m", "appliance", "serve", "{model}", "--port", "{port}"]
    # What drafts bring depends on the text: rates of one server differed threefold.
    options = ["--no-tune", "--prompt-lookup", "off"]
    options += ["--ctx", str(_CTX), "--slots", str(max(_NUM_STREAMS))]
    place = f"cd {shlex.quote(str(tree))} && PYTHONPATH=. HOME={{dir}}"
    # not from the folder that this runs in: Python looks there first
    line = shlex.join(["sh", "-c", f"{place} exec {shlex.join([*serve, *options])}"])
    return Command(name, line.replace("'{", "{").replace("}'", "}"), model, folder)


def compared(
    now: Command, release: Command, pace: Pace, progress: Callable[[str], None]
) -> tuple[list[Comparison], float]:
    """For each load, and the share of the machine that other processes took.

    Raises `ServerFailed` or `RequestFailed`.
    """
    with started(now) as ours, started(release) as theirs:
        before = CpuUse.now(ours, theirs)
        comparisons = [
            _compared(ours, theirs, num_streams, pace, progress) for num_streams in _NUM_STREAMS
        ]
        use = CpuUse.now(ours, theirs).since(before)
    return comparisons, use.share(use.foreign_s)


def _compared(
    ours: Server, theirs: Server, num_streams: int, pace: Pace, progress: Callable[[str], None]
) -> Comparison:
    rng = random.Random(f"gate {num_streams}")
    load = f"{ours.command.model.stem}, {num_streams} streams"
    num_tokens = _num_tokens(ours, theirs, num_streams, pace, rng)
    rates: dict[Server, list[float]] = {ours: [], theirs: []}
    for round_number in range(pace.num_rounds):
        progress(f"{load}: round {round_number + 1} of {pace.num_rounds}")
        seed = rng.random()
        for server in (ours, theirs) if round_number % 2 else (theirs, ours):
            rates[server].append(_rate(server, num_streams, num_tokens, random.Random(seed)))
    return Comparison(load=load, now=rates[ours], release=rates[theirs])


def _num_tokens(
    ours: Server, theirs: Server, num_streams: int, pace: Pace, rng: random.Random
) -> int:
    """Of each answer, so that a measurement takes about as long as it should; the first
    ones of each server only warm up.
    """
    for server in (ours, theirs):
        _rate(server, num_streams, _FEWEST_TOKENS, rng)
    rate = _rate(ours, num_streams, 4 * _FEWEST_TOKENS, rng)
    wanted = int(rate * pace.measured_s / num_streams)
    return max(_FEWEST_TOKENS, min(wanted, _MOST_TOKENS))


def _rate(server: Server, num_streams: int, num_tokens: int, rng: random.Random) -> float:
    """Tokens/s of all streams, from the first request to the last token."""
    requests = [
        Request(f"stream {number}", random_text(rng, _PROMPT_TOKENS), num_tokens)
        for number in range(num_streams)
    ]

    async def answers() -> float:
        done = await asyncio.gather(*(server.endpoint.complete(each) for each in requests))
        took_s = max(each.ended_s for each in done) - min(each.sent_s for each in done)
        return sum(each.num_tokens for each in done) / took_s

    return asyncio.run(answers())
