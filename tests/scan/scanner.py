"""Sends requests, several at a time, and holds every response against the rules.

Knows no route and no oddity.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.scan.requests import Keys, Request
from tests.scan.rules import Rules
from tests.scan.wire import Address, Connection, NoHttp, Response

_NUM_CONNECTIONS = 8


@dataclass
class Findings:
    num_requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def add(self, what: object, why: str) -> None:
        self.broken.append(f"{what}: {why}")


class Scanner:
    def __init__(self, address: Address, keys: Keys, rules: Rules) -> None:
        self.address, self.keys, self.rules = address, keys, rules
        self.findings = Findings()

    async def ask_all(self, requests: Iterable[Request]) -> None:
        waiting = iter(requests)
        await asyncio.gather(*(self._ask_in_turn(waiting) for _ in range(_NUM_CONNECTIONS)))

    async def ask(self, request: Request) -> Response | None:
        """None where there was no response, which is a finding."""
        async with Connection(self.address) as connection:
            return await self._exchange(connection, request)

    async def _ask_in_turn(self, requests: Iterator[Request]) -> None:
        async with Connection(self.address) as connection:
            for request in requests:
                response = await self._exchange(connection, request)
                if response is None or response.status == 101:
                    await connection.close()

    async def _exchange(self, connection: Connection, request: Request) -> Response | None:
        data = request.data(self.address.name, self.keys)
        was_open = connection.is_open
        if not was_open:
            await connection.open()
        await connection.send(data)
        self.findings.num_requests += 1
        try:
            response = await connection.receive(is_head=request.method == b"HEAD")
        except NoHttp as error:
            self.findings.add(request, f"no HTTP came back: {error}")
        except asyncio.TimeoutError:
            self.findings.add(request, "no response came in time")
        except (EOFError, OSError):
            if was_open:  # the server may close one that it kept just when the next one is sent
                await connection.close()
                return await self._exchange(connection, request)
            self.findings.add(request, "closed without a response")
        else:
            self.judge(request, response)
            return response
        return None

    def judge(self, request: Request, response: Response) -> None:
        self.findings.statuses[response.status] += 1
        for why in self.rules.broken_by(request, response):
            self.findings.add(request, why)
