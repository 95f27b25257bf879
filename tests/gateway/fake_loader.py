"""Models that are loaded and answer when the test says so,
and a clock that the test moves.

No process, no time.

The loader itself watches what must never happen: two workers of one model, and more
bytes than the budget has.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from appliance.errors import ApplianceError, HelperLost, NothingFits, WorkerLost
from appliance.protocol.events import EmbedResult, Event, Finished, FinishReason, Started, Usage
from appliance.protocol.health import WorkerHealth, WorkerState
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.relief import Pace, Relief
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest, TextPrompt

REQUEST = GenerateRequest(prompt=TextPrompt("Once"))


def keeping(keep_alive_s: float | None) -> GenerateRequest:
    """The request that says how long its model is to stay."""
    return GenerateRequest(prompt=REQUEST.prompt, keep_alive_s=keep_alive_s)


ANSWER: list[Event] = [
    Started(1, 1),
    Finished(
        request_id=1,
        reason=FinishReason.STOP,
        usage=Usage(num_prompt_tokens=1, num_cached_tokens=0, num_completion_tokens=1),
    ),
]


class FakeTimer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeClock:
    def __init__(self) -> None:
        self._now_s = 0.0
        self._timers: list[tuple[float, int, FakeTimer]] = []

    def time(self) -> float:
        return self._now_s

    def call_later(self, delay: float, callback: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer(callback)
        heapq.heappush(self._timers, (self._now_s + delay, len(self._timers) + id(timer), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """Time passes, and everything that it brings about happens."""
        until_s = self._now_s + seconds
        while self._timers and self._timers[0][0] <= until_s:
            self._now_s, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                timer.callback()
            await settle()
        self._now_s = until_s
        await settle()


async def settle() -> None:
    """Lets every task go on until it waits for something
    that only the test can bring about.
    """
    for _ in range(60):
        await asyncio.sleep(0)


@dataclass(kw_only=True)
class FakeWorker:
    """Loads, answers and stops at once, or when its gate is opened."""

    loader: FakeLoader
    model_id: str
    need_bytes: int
    load_gate: asyncio.Event
    stop_gate: asyncio.Event
    state: WorkerState = WorkerState.STARTING
    info: ModelInfo | None = None
    relief: Relief | None = None
    num_answers: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    loss: asyncio.Event = field(default_factory=asyncio.Event)
    loses_helper: bool = False

    async def start(self) -> None:
        self.loader.took(self)
        await self.load_gate.wait()
        error = self.loader.load_errors.pop(self.model_id, None)
        if isinstance(error, ApplianceError):
            self.loader.freed(self)
        if error is not None:
            raise error
        self.state = WorkerState.READY

    async def stop(self) -> None:
        if self.state is not WorkerState.STOPPED:
            await self.stop_gate.wait()
            self.loader.freed(self)
        self.state = WorkerState.STOPPED
        self.ended.set()

    async def failed(self) -> None:
        await self.loss.wait()
        kind = HelperLost if self.loses_helper else WorkerLost
        raise kind("The model is no longer served: killed by SIGKILL.")

    def health(self) -> WorkerHealth:
        return WorkerHealth(
            state=self.state,
            pid=4711,
            num_restarts=0,
            last_error=None,
            heartbeat=None,
            heartbeat_age_s=0.25,
        )

    def relieve(self, relief: Relief | Pace) -> None:
        self.relief = relief

    async def embed(self, request: EmbedRequest | RerankRequest) -> EmbedResult:
        await self.loader.answer_gate(self.model_id).wait()
        self.num_answers += 1
        return EmbedResult(1, b"\0\0\x80?", 1, 1)

    async def generate(
        self, request: GenerateRequest, on_computed: object = None
    ) -> AsyncGenerator[Event, None]:
        assert request.prompt == REQUEST.prompt
        if self.state is not WorkerState.READY:
            self.loader.faults.append(f"{self.model_id} was asked while it was {self.state}")
        yield ANSWER[0]
        await self.loader.answer_gate(self.model_id).wait()
        if self.loss.is_set():
            raise WorkerLost("killed by SIGKILL")
        if self.state is not WorkerState.READY:
            self.loader.faults.append(f"{self.model_id} was unloaded under a request")
        self.num_answers += 1
        yield ANSWER[1]


@dataclass(frozen=True)
class FakePlan:
    loader: FakeLoader
    model_id: str
    need_bytes: int

    @property
    def anonymous_bytes(self) -> int:
        return self.need_bytes // 2

    @property
    def choice(self) -> str:
        return f"{self.need_bytes} bytes of {self.model_id}"

    @property
    def reason(self) -> str:
        return f"{self.model_id} has nothing smaller"

    @property
    def parts(self) -> Mapping[str, int]:
        return {"weights": self.anonymous_bytes, "KV cache": self.need_bytes - self.anonymous_bytes}

    def make_worker(self) -> FakeWorker:
        loader = self.loader
        load_gate = loader.load_gates.setdefault(self.model_id, _open())
        return FakeWorker(
            loader=loader,
            model_id=self.model_id,
            need_bytes=self.need_bytes,
            load_gate=load_gate,
            stop_gate=loader.stop_gate,
        )


class FakeLoader:
    """`sizes` are what each model may take, best first.

    Gates are open until a test closes them (`clear`).
    """

    def __init__(self, sizes: Mapping[str, Sequence[int]], total_bytes: int) -> None:
        self.sizes = sizes
        self.total_bytes = total_bytes
        self.prepare_gate = _open()
        self.stop_gate = _open()
        self.load_gates: dict[str, asyncio.Event] = {name: _open() for name in sizes}
        self.load_errors: dict[str, Exception] = {}
        self.loads: list[tuple[str, int]] = []
        self.running: dict[str, FakeWorker] = {}
        self.faults: list[str] = []  # what must never happen
        self._answer_gates: dict[str, asyncio.Event] = {}

    def answer_gate(self, model_id: str) -> asyncio.Event:
        return self._answer_gates.setdefault(model_id, _open())

    async def prepare(self, model_id: str) -> None:
        await self.prepare_gate.wait()

    async def want(self, model_id: str) -> FakePlan:
        return await self.plan(model_id, self.total_bytes)

    async def plan(self, model_id: str, num_bytes: int) -> FakePlan:
        await asyncio.sleep(0)
        fitting = [size for size in self.sizes[model_id] if size <= num_bytes]
        if not fitting:
            raise NothingFits(
                f"Nothing fits: {min(self.sizes[model_id])} are needed, and there are {num_bytes}."
            )
        return FakePlan(self, model_id, fitting[0])

    def took(self, worker: FakeWorker) -> None:
        if worker.model_id in self.running:
            self.faults.append(f"{worker.model_id} was loaded twice")
        self.running[worker.model_id] = worker
        self.loads.append((worker.model_id, worker.need_bytes))
        if self.num_bytes > self.total_bytes:
            self.faults.append(f"{self.num_bytes} bytes were taken by {', '.join(self.running)}")

    def freed(self, worker: FakeWorker) -> None:
        if self.running.get(worker.model_id) is worker:
            del self.running[worker.model_id]

    @property
    def num_bytes(self) -> int:
        return sum(worker.need_bytes for worker in self.running.values())


def _open() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate
