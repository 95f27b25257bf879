"""Where a fleet of 10, 100 or 1,000 nodes meets the limit of what stands in front of it.

The router's time for a request is measured here, on its own code; what a door and Ray's head
take are assumptions, given as flags and written into the picture. Knows no node but by the
seconds that a request takes it.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli.bench.figures import quantile
from appliance.cli.tables.table import table
from appliance.fleet.routing import (
    BLOCK_TOKENS,
    Fingerprints,
    KnownPrefixes,
    Policy,
    RoutedNode,
    Router,
    fingerprints,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COUNTS = (1, 3, 10, 30, 100, 300, 1000)
_FULL = 0.7  # of a node's time, as `appliance.fleet.capacity` counts
_SYSTEM_TOKENS, _PROMPT_TOKENS = 4 * BLOCK_TOKENS, 20 * BLOCK_TOKENS
_KNOWN_BLOCKS = 512
_CHATS_OF_NODE = 8
_TRIES = 400


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What is not measured here."""

    node_s: float  # of a node's time for a request
    answer_tokens: int
    door_request_ms: float  # of a door's one thread, for a request, and
    door_token_ms: float  # for each token that it passes on
    head_node_ms: float  # of Ray's head, a second, for each node's health and state


def route_times_ms(num_nodes: int, policy: Policy, num_tries: int = _TRIES) -> list[float]:
    """Of a thread's time, what choosing and noting took, request by request: by turns the next
    of a chat that a node knows, and a new one, all of them begun by the same tokens.
    """
    rng = random.Random(num_nodes)
    system = _words(_SYSTEM_TOKENS, rng)
    chats = [
        fingerprints(system + _words(_PROMPT_TOKENS - _SYSTEM_TOKENS, rng))
        for _ in range(min(num_nodes * _CHATS_OF_NODE, num_tries))
    ]
    nodes = [
        RoutedNode(KnownPrefixes(_KNOWN_BLOCKS), prompt_token_ms=2.0, token_ms=20.0)
        for _ in range(num_nodes)
    ]
    router = Router(policy, nodes, rng)
    for number, node in enumerate(nodes):
        router.routed(number, -1, chats[number % len(chats)], _PROMPT_TOKENS, 100)
        node.take(-1, rng.randrange(200), 100)
    new = [
        fingerprints(system + _words(_PROMPT_TOKENS - _SYSTEM_TOKENS, rng))
        for _ in range(num_tries // 2)
    ]
    asked = [prints for pair in zip(itertools.cycle(chats), new) for prints in pair]
    return [_route_ms(router, number, prints) for number, prints in enumerate(asked)]


def _route_ms(router: Router, number: int, prints: Fingerprints) -> float:
    started_s = time.thread_time()
    at = router.choose(prints, _PROMPT_TOKENS)
    assert at is not None, "all are up"
    router.routed(at, number, prints, _PROMPT_TOKENS, 100)
    elapsed_ms = (time.thread_time() - started_s) * 1000
    router.ended(at, number)
    return elapsed_ms


def _words(num_tokens: int, rng: random.Random) -> list[int]:
    return [rng.randrange(1 << 17) for _ in range(num_tokens)]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Requests a second that each part can take, of a fleet of so many nodes."""

    num_nodes: int
    nodes: float
    router: float  # one thread
    door: float  # one thread
    head_share: float  # of its one thread, whatever is asked

    @property
    def num_doors(self) -> int:
        """So that doors are not the limit."""
        return max(-int(-self.nodes // self.door), 1)


def limits(num_nodes: int, route_ms: float, assumed: Assumed) -> Limits:
    """From what one request takes of each."""
    door_ms = assumed.door_request_ms + assumed.answer_tokens * assumed.door_token_ms
    return Limits(
        num_nodes=num_nodes,
        nodes=num_nodes * _FULL / assumed.node_s,
        router=1000 / route_ms,
        door=1000 / door_ms,
        head_share=num_nodes * assumed.head_node_ms / 1000,
    )


def run(given: argparse.Namespace) -> int:
    """Measures, prints a table, and draws where `given.out` says."""
    assumed = Assumed(
        node_s=given.node_s,
        answer_tokens=given.answer,
        door_request_ms=given.door_request_ms,
        door_token_ms=given.door_token_ms,
        head_node_ms=given.head_node_ms,
    )
    times = {
        policy: {count: sorted(route_times_ms(count, policy)) for count in COUNTS}
        for policy in Policy
    }
    found = [
        limits(count, quantile(times[Policy.PREFIX][count], 0.95), assumed) for count in COUNTS
    ]
    print(table(list(_rows(times))), end="\n\n")
    print(table(list(_limit_rows(found))))
    if given.out is not None:
        draw(found, assumed, given.out)
    return 0


def _rows(times: dict[Policy, dict[int, list[float]]]) -> Iterator[tuple[str, ...]]:
    yield ("router, ms p50 / p95", *(f"{count} nodes" for count in COUNTS))
    for policy, by_count in times.items():
        cells = (f"{quantile(ms, 0.5):.3f} / {quantile(ms, 0.95):.3f}" for ms in by_count.values())
        yield (policy.value, *cells)


def _limit_rows(found: Sequence[Limits]) -> Iterator[tuple[str, ...]]:
    yield ("requests/s", *(f"{each.num_nodes} nodes" for each in found))
    rows: dict[str, Callable[[Limits], str]] = {
        "nodes": lambda each: f"{each.nodes:.3g}",
        "one router": lambda each: f"{each.router:,.0f}",
        "one door": lambda each: f"{each.door:.3g}",
        "doors needed": lambda each: str(each.num_doors),
        "head busy": lambda each: f"{each.head_share:.1%}",
    }
    for name, cell in rows.items():
        yield (name, *(cell(each) for each in found))


def draw(found: Sequence[Limits], assumed: Assumed, path: Path) -> None:
    """The same as an SVG, always with the same bytes for the same numbers."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "fleet", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 4.6), layout="constrained")
        _lines(figure.subplots(), found, assumed)
        figure.savefig(path, metadata={"Date": None})


def _lines(axes: Axes, found: Sequence[Limits], assumed: Assumed) -> None:
    counts = [each.num_nodes for each in found]
    lines = {
        f"nodes, {assumed.node_s:g} s of each for a request": [each.nodes for each in found],
        f"nodes, {10 * assumed.node_s:g} s of each": [each.nodes / 10 for each in found],
        "one thread that routes (measured)": [each.router for each in found],
        f"one door: {assumed.door_request_ms:g} ms, and {assumed.door_token_ms:g} ms for each of "
        f"{assumed.answer_tokens} tokens (assumed)": [each.door for each in found],
    }
    for (name, values), style in zip(lines.items(), ("-", "-", "--", ":"), strict=True):
        axes.loglog(counts, values, style, label=name, marker=".")
    axes.set_xlabel("nodes")
    axes.set_ylabel("requests a second")
    axes.set_title("What a fleet can take, and what stands in front of it")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
