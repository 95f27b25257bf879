"""Sends cases to a real worker and tells which of them harmed it.

Knows no case's meaning.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from appliance.api.app import create_app
from appliance.protocol.health import WorkerState
from appliance.worker.config import WorkerConfig
from appliance.worker.supervisor import Supervisor
from tests.api.scripted_client import gateway_around
from tests.fuzz.cases import Case, case_of
from tests.worker.running import next_heartbeat, running

AT_ONCE = 8
HANGS_AFTER_S = 60.0  # of the wall, on a busy machine; a case takes some ms
_JSON = {"content-type": "application/json"}


@dataclass
class Findings:
    """What a run found."""

    num_cases: int = 0
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    harmful: list[tuple[Case, str]] = field(default_factory=list)
    slowest: list[tuple[float, int]] = field(default_factory=list)  # s, number of the case

    def note(self, case: Case, status: int, seconds: float) -> None:
        self.num_cases += 1
        self.statuses[status] += 1
        self.slowest = sorted([*self.slowest, (seconds, case.number)], reverse=True)[:5]


async def fuzz(config: WorkerConfig, seed: int, numbers: range) -> Findings:
    """Several at once. What dies together is tried again one by one, each on a worker of its
    own.
    """
    findings = Findings()
    cases = (case_of(seed, number) for number in numbers)
    lost: list[Case] = []
    async with _serving(config) as (supervisor, http):
        await asyncio.gather(
            *(_take(cases, supervisor, http, findings, lost) for _ in range(AT_ONCE))
        )
        if supervisor.health().state is WorkerState.READY:
            await _check_empty(supervisor, findings, numbers)
    for case in lost:
        if reason := await harm_of(config, case):
            findings.harmful.append((case, reason))
    if lost and not findings.harmful:
        findings.harmful += [(case, "only together with others") for case in lost]
    return findings


async def harm_of(config: WorkerConfig, case: Case) -> str | None:
    """Of one case alone."""
    async with _serving(config) as (supervisor, http):
        _, reason = await _answered(case, supervisor, http)
        return reason


@asynccontextmanager
async def _serving(config: WorkerConfig) -> AsyncIterator[tuple[Supervisor, httpx.AsyncClient]]:
    async with running(config) as supervisor:
        app = create_app(gateway_around(supervisor))  # type: ignore[arg-type] # a Client too
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield supervisor, http


async def _take(
    cases: Iterator[Case],
    supervisor: Supervisor,
    http: httpx.AsyncClient,
    findings: Findings,
    lost: list[Case],
) -> None:
    for case in cases:
        began_s = time.monotonic()
        status, reason = await _answered(case, supervisor, http)
        findings.note(case, status, time.monotonic() - began_s)
        if reason is not None:
            lost.append(case)


async def _answered(
    case: Case, supervisor: Supervisor, http: httpx.AsyncClient
) -> tuple[int, str | None]:
    """The status, and what is wrong with it."""
    num_restarts = supervisor.health().num_restarts
    try:
        answer = await asyncio.wait_for(
            http.post(case.path, content=case.body, headers=_JSON), HANGS_AFTER_S
        )
    except asyncio.TimeoutError:
        return 0, f"no answer within {HANGS_AFTER_S:.0f} s"
    if answer.status_code >= 500 or (
        answer.status_code == 200 and '"internal_error"' in answer.text
    ):
        return answer.status_code, f"{answer.status_code}: {answer.text[-300:]}"
    if supervisor.health().num_restarts != num_restarts:
        return answer.status_code, f"the worker died: {supervisor.health().last_error}"
    return answer.status_code, None


async def _check_empty(supervisor: Supervisor, findings: Findings, numbers: range) -> None:
    """No request is left behind."""
    await next_heartbeat(supervisor)
    await next_heartbeat(supervisor)
    heartbeat = supervisor.health().heartbeat
    assert heartbeat is not None
    left: dict[str, Any] = {"running": heartbeat.num_running, "waiting": heartbeat.num_waiting}
    if any(left.values()):
        none = Case(numbers.start, "any", "", "")
        findings.harmful.append((none, f"requests are left behind: {left}"))
