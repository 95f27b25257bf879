"""Clients that ask without pause, each with a key of its own, and write down how each
request ended.

Knows no fault: what the server is going through is the ledger's phase.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import httpx

from tests.soak.asks import Ask, Manner, ask_of
from tests.soak.judging import Ending, Received, Verdict, judged
from tests.soak.ledger import Entry, Ledger

DEADLINE_S = 150.0  # a worker that hangs is given up after 30 s, and some wait in line behind it
_PAUSE_S = 0.25  # of whoever was refused
_SLOW_READ_S = 0.05  # between two pieces of an answer
_SMALL_BUFFER = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]
_SHUTS_DOWN = (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


@dataclass(frozen=True)
class Answered:
    """What one request came to."""

    status: int
    verdict: Verdict


class Load:
    """Clients that ask, each one thing after the other."""

    def __init__(self, num_clients: int) -> None:
        self._asking = [asyncio.Lock() for _ in range(num_clients)]
        self._is_over = False

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Within it nobody asks: each has finished what it had begun."""
        async with contextlib.AsyncExitStack() as stack:
            for asking in self._asking:
                await stack.enter_async_context(asking)
            yield

    async def run(self, url: str, keys: Sequence[str], ledger: Ledger, *, seed: str) -> None:
        """Until `end`, and what they have begun by then."""
        clients = [
            self._ask_on(asking, url, keys[at % len(keys)], ledger, random.Random(f"{seed}-{at}"))
            for at, asking in enumerate(self._asking)
        ]
        await asyncio.gather(*clients)

    def end(self) -> None:
        self._is_over = True

    async def _ask_on(
        self, asking: asyncio.Lock, url: str, key: str, ledger: Ledger, rng: random.Random
    ) -> None:
        async with client_of(url, key) as http:
            while not self._is_over:
                async with asking:
                    answered = await noted(http, ask_of(rng), ledger)
                if answered.verdict.ending not in (Ending.ANSWERED, Ending.LEFT):
                    await asyncio.sleep(_PAUSE_S)


@contextlib.asynccontextmanager
async def load(
    url: str, keys: Sequence[str], ledger: Ledger, *, num_clients: int, seed: str
) -> AsyncIterator[Load]:
    """Runs as long as its context; at the end each client finishes what it has begun."""
    clients = Load(num_clients)
    running = asyncio.create_task(clients.run(url, keys, ledger, seed=seed))
    try:
        yield clients
    finally:
        clients.end()
        await running


def client_of(url: str, key: str) -> httpx.AsyncClient:
    """Its time is limited by whoever uses it."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"authorization": f"Bearer {key}", "accept-encoding": "identity"},
        timeout=None,
        transport=httpx.AsyncHTTPTransport(socket_options=_SMALL_BUFFER),
    )


async def noted(http: httpx.AsyncClient, ask: Ask, ledger: Ledger) -> Answered:
    """Asks, and writes it down."""
    began, began_s = ledger.phase, time.monotonic()
    answered = await asked(http, ask)
    ended = ledger.phase
    if answered.verdict.ending is Ending.CUT:
        # a server that stops ends what it has begun, and one that is killed does not
        is_stopped = (began.is_restart or ended.is_restart) and not answered.status
        if ended.is_kill or is_stopped:
            answered = Answered(answered.status, Verdict(Ending.UNREACHED))
    ledger.entries.append(
        Entry(
            what=ask.what,
            began=began,
            ended=ended,
            began_s=began_s,
            ended_s=time.monotonic(),
            status=answered.status,
            verdict=answered.verdict,
            expected_status=ask.expected_status,
            num_choices=ask.num_choices,
        )
    )
    return answered


async def asked(http: httpx.AsyncClient, ask: Ask) -> Answered:
    """Never raises for what the server does."""
    taking = _Taking(http, ask)
    try:
        await asyncio.wait_for(taking.run(), DEADLINE_S)
    except asyncio.TimeoutError:
        return Answered(taking.status, Verdict(Ending.LATE))
    except _Left:
        return Answered(taking.status, Verdict(Ending.LEFT))
    except _SHUTS_DOWN as error:
        if not taking.status:
            return Answered(0, Verdict(Ending.CUT, detail=repr(error)))
        return taking.judged(is_whole=False)
    return taking.judged(is_whole=True)


class _Left(Exception):
    """The client went away."""


class _Taking:
    """One answer, in the manner in which it is taken."""

    def __init__(self, http: httpx.AsyncClient, ask: Ask) -> None:
        self._http = http
        self._ask = ask
        self._body = bytearray()
        self.status = 0

    async def run(self) -> None:
        """Raises `_Left`, and what httpx does."""
        if self._ask.manner is not Manner.LEAVES:
            await self._take()
            return
        try:
            await asyncio.wait_for(self._take(), self._ask.leaves_after_s)
        except asyncio.TimeoutError:
            raise _Left from None

    async def _take(self) -> None:
        ask = self._ask
        async with self._http.stream(
            "POST", ask.path, json=ask.body, headers=dict(ask.headers)
        ) as response:
            self.status = response.status_code
            if ask.manner is Manner.STARES and self.status == 200:
                await asyncio.sleep(ask.leaves_after_s)
                raise _Left
            async for piece in response.aiter_raw(2048):
                self._body += piece
                if ask.manner is Manner.SLOW:
                    await asyncio.sleep(_SLOW_READ_S)

    def judged(self, *, is_whole: bool) -> Answered:
        ask = self._ask
        received = Received(status=self.status, body=bytes(self._body), is_whole=is_whole)
        verdict = judged(ask.form, received, is_stream=ask.is_stream, num_choices=ask.num_choices)
        return Answered(self.status, verdict)
