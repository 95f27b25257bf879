"""One plan in one memory control group: served, its pool filled, timed under the limit
and without it by turns.

Knows no cases and does not choose: what is served is the server's own plan, or what
flags say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.cli.bench.stream import RequestFailed
from bench.memory_groups.groups import MemoryGroup, TooSmall, memory_group
from bench.memory_groups.page_cache import cached_bytes, make_cold
from bench.memory_groups.pool import FullPool, filled
from bench.memory_groups.server import ROOT, GroupServer, Home, Killed, Served, command_of, serving
from bench.memory_groups.verdict import GroupVerdict, Phase, judge, killed

NUM_TURNS = 2  # under the limit, and without it
_WARM_TOKENS, _WARM_S = 6, 6.0  # until the kernel has settled what it keeps
_TIMED_TOKENS, _TIMED_S = 12, 12.0
EARLY_TOKENS = 64  # written by the first requests while the prompts of others are computed
# the pool is filled sooner, and every start is alike
_FLAGS = ("--max-stall-ms", "5000", "--no-tune")


@dataclass(frozen=True)
class GroupTrial:
    """What was served, what was measured of it, and what follows."""

    served: Served | None  # None where nothing came up
    phases: list[Phase]
    verdict: GroupVerdict
    num_filled_cells: int = 0  # at the end, when the first request had taken all it could


def plan_inside(model: str, home: Home, limit_bytes: int) -> dict[str, Any]:
    """What `appliance fit --json` finds in a group of this limit."""
    with memory_group(limit_bytes) as group:
        command = group.inside(*command_of("fit", model, home), "--json")
        done = subprocess.run(
            command, cwd=ROOT, env=home.environment, capture_output=True, check=True
        )
        plan: dict[str, Any] = json.loads(done.stdout)
        return plan


def try_own_plan(
    model: str, home: Home, limit_bytes: int, num_turns: int = NUM_TURNS
) -> GroupTrial:
    """The server plans for the limit that it finds,
    and has it from its first moment on.
    """
    with _cold_group(model, home, limit_bytes) as group:
        return asyncio.run(_trial(group, model, home, _FLAGS, [limit_bytes] * num_turns))


def try_forced(
    model: str, home: Home, limit_bytes: int, flags: Sequence[str], num_turns: int = NUM_TURNS
) -> GroupTrial:
    """A plan that the server would refuse under this limit: so that it is set once the
    pool is in use.
    """
    with _cold_group(model, home, None) as group:
        return asyncio.run(_trial(group, model, home, (*_FLAGS, *flags), [limit_bytes] * num_turns))


def try_limits(
    model: str, home: Home, flags: Sequence[str], need_shares: Sequence[float]
) -> list[Phase]:
    """One server under ever other limits, each a share of what it holds without one,
    and without any in between.
    """
    with _cold_group(model, home, None) as group:
        return asyncio.run(_phases_of(group, model, home, (*_FLAGS, *flags), need_shares))


@contextlib.contextmanager
def _cold_group(model: str, home: Home, limit_bytes: int | None) -> Iterator[MemoryGroup]:
    """A group that will be charged for every page of the model."""
    for path in (home.models / model).glob("*.gguf"):
        make_cold(path)
    with memory_group(limit_bytes) as group:
        yield group


async def _trial(
    group: MemoryGroup, model: str, home: Home, flags: Sequence[str], limits: Sequence[int]
) -> GroupTrial:
    served, phases, num_filled_cells = None, [], 0
    try:
        with serving(group, model, home, flags) as server:
            served = server.await_ready()
            await asyncio.to_thread(server.complete_in_form)
            async with filled(server, served, _answer_tokens(len(limits))) as pool:
                for limit_bytes in limits:
                    phases.append(await _phase(group, server, pool, limit_bytes))
                    phases.append(await _phase(group, server, pool, None))
                await asyncio.to_thread(group.limit, limits[-1])
                if judge(phases).survived:
                    await asyncio.to_thread(server.post_largest_body, served.ctx)
                    server.check()
                    await pool.await_first_end()
                    num_filled_cells = pool.num_cells
                    server.check()
    except (Killed, TooSmall, RequestFailed, OSError) as error:
        return GroupTrial(served, phases, killed(str(error)))
    return GroupTrial(served, phases, judge(phases), num_filled_cells)


async def _phases_of(
    group: MemoryGroup, model: str, home: Home, flags: Sequence[str], shares: Sequence[float]
) -> list[Phase]:
    phases = []
    with serving(group, model, home, flags) as server:
        served = server.await_ready()
        await asyncio.to_thread(server.complete_in_form)
        async with filled(server, served, _answer_tokens(len(shares) + 1)) as pool:
            phases.append(await _phase(group, server, pool, None))
            held = group.counters()
            mapped_bytes = sum(cached_bytes(path) for path in (home.models / model).glob("*.gguf"))
            need_bytes = held.anonymous_bytes + held.kernel_bytes + mapped_bytes
            for share in shares:
                phases.append(await _phase(group, server, pool, int(share * need_bytes)))
                phases.append(await _phase(group, server, pool, None))
    return phases


async def _phase(
    group: MemoryGroup, server: GroupServer, pool: FullPool, limit_bytes: int | None
) -> Phase:
    if group.limit_bytes != limit_bytes:
        await asyncio.to_thread(group.limit, limit_bytes)
    await pool.measure(_WARM_TOKENS, _WARM_S)
    before = group.counters()
    window = await pool.measure(_TIMED_TOKENS, _TIMED_S)
    after = group.counters()
    return Phase(
        limit_bytes=limit_bytes,
        tokens_per_s=window.tokens_per_s,
        refaulted_bytes_per_s=(after.refaulted_bytes - before.refaulted_bytes) / window.elapsed_s,
        anonymous_bytes=after.anonymous_bytes,
        file_bytes=after.file_bytes,
        kernel_bytes=after.kernel_bytes,
        num_used_cells=server.num_used_cells(),
    )


def _answer_tokens(num_turns: int) -> int:
    """What each request writes while all phases are measured."""
    return 2 * num_turns * (_WARM_TOKENS + _TIMED_TOKENS) + EARLY_TOKENS
