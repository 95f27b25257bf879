"""One model that is loaded and unloaded: who uses it, who waits for it, its state.

Knows no memory and no other model.

To the rest of the server it is a `Client` like any other, whose requests wait while it
is loaded.
"""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from appliance.errors import (
    ApplianceError,
    ModelLoading,
    ModelUnavailable,
    ShuttingDown,
    StreamGone,
)
from appliance.gateway.loading import Clock, LoadPlan, ManagedWorker, Timer
from appliance.protocol.events import AskResult, EmbedResult, Event
from appliance.protocol.health import WorkerHealth, WorkerState
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.questions import Question
from appliance.protocol.relief import Pace, Relief
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest
from appliance.worker.client import OnComputed, nothing_to_tell


class LoadState(str, enum.Enum):
    UNLOADED = "unloaded"
    LOADING = "loading"  # files are prepared, room is looked for, or the worker loads
    LOADED = "loaded"
    UNLOADING = "unloading"  # answers in flight may finish; new requests wait
    FAILED = "failed"  # could not be loaded, or its worker was given up; tried again when asked for


class LoadProgress(str, enum.Enum):
    """How far a load has come, in words for whoever waits for it."""

    PREPARING = "its files are being prepared"
    PLANNING = "its plan is being made"
    LOOKING_FOR_ROOM = "other models in use hold the memory that it needs"
    MAKING_ROOM = "other models are being unloaded for it"
    STARTING = "it is being loaded"


@dataclass(frozen=True)
class WaitLimits:
    """How requests wait for a model, and how soon a load that failed is tried again."""

    max_waiting: int = 128  # requests for one model
    wait_s: float = 300.0  # each of them, at most
    first_backoff_s: float = 5.0  # after a failure; twice as long after each further one
    longest_backoff_s: float = 300.0


@dataclass(kw_only=True)
class LoadedModel:
    """One stay of a model in memory, from the moment that its worker is made."""

    worker: ManagedWorker
    plan: LoadPlan
    wanted_bytes: int  # what it would have got of an empty budget
    loaded_s: float = 0.0
    idle_since_s: float = 0.0
    num_users: int = 0
    watch: asyncio.Task[None] | None = None  # waits for the worker to be lost for good

    @property
    def is_reduced(self) -> bool:
        return self.plan.need_bytes < self.wanted_bytes


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """The state of a model now."""

    state: LoadState
    num_users: int  # requests that are being answered
    num_waiting: int  # requests that wait for it to be loaded
    progress: str | None  # in words, while it is being loaded
    error: str | None  # why it could not be loaded, or was lost
    keep_alive_s: float
    predicted_bytes: int | None
    plan: LoadPlan | None  # by which it is loaded
    is_reduced: bool  # loaded smaller than it should be
    idle_s: float | None  # since it was last used
    unload_in_s: float | None  # None: never, or not while it is used


@dataclass(frozen=True)
class Listener:
    """How a model's owner learns what happens to it."""

    on_wanted: Callable[[ManagedModel], None]  # a request waits for it
    on_idle: Callable[[ManagedModel], None]  # nobody uses it any more
    on_left: Callable[[ManagedModel], None]  # a request no longer waits


@dataclass(kw_only=True)
class ManagedModel:
    """The state of one model.

    Its owner moves it from state to state; requests wait here, and are counted.
    """

    model_id: str
    keep_alive_s: float  # how long it stays when nobody uses it; infinite: for ever
    limits: WaitLimits
    clock: Clock
    listener: Listener
    state: LoadState = LoadState.UNLOADED
    progress: LoadProgress = LoadProgress.PREPARING
    is_preloading: bool = False
    is_closing: bool = False
    loaded: LoadedModel | None = None
    error: ApplianceError | None = None
    # by the last request that asked for one, until the model is unloaded
    requested_keep_alive_s: float | None = None
    _num_failures: int = 0
    _retry_at_s: float = 0.0
    _waiters: list[asyncio.Future[LoadedModel]] = field(default_factory=list)
    _keep_alive: Timer | None = None

    # --- as a client ------------------------------------------------------------------

    @property
    def info(self) -> ModelInfo | None:
        return None if self.loaded is None else self.loaded.worker.info

    def health(self) -> WorkerHealth:
        error = None if self.error is None else self.error.message
        if self.loaded is None:
            return WorkerHealth(
                state=self._worker_state(),
                pid=None,
                num_restarts=0,
                last_error=error,
                heartbeat=None,
                heartbeat_age_s=None,
            )
        health = self.loaded.worker.health()
        if self.state is not LoadState.LOADING:
            return health
        return WorkerHealth(
            state=self._worker_state(),
            pid=health.pid,
            num_restarts=health.num_restarts,
            last_error=health.last_error or error,
            heartbeat=None,
            heartbeat_age_s=None,
        )

    def relieve(self, relief: Relief | Pace) -> None:
        if self.loaded is not None:
            self.loaded.worker.relieve(relief)

    async def ask(self, question: Question) -> AskResult:
        """Loads the model if need be."""
        async with self._lease() as worker:
            return await worker.ask(question)

    async def embed(self, request: EmbedRequest | RerankRequest) -> EmbedResult:
        """Loads the model if need be; it stays until the answer is there."""
        async with self._lease(request.keep_alive_s) as worker:
            return await worker.embed(request)

    async def generate(
        self, request: GenerateRequest, on_computed: OnComputed = nothing_to_tell
    ) -> AsyncGenerator[Event, None]:
        """Loads the model if need be; it stays until the answer has ended."""
        async with (
            self._lease(request.keep_alive_s) as worker,
            aclosing(worker.generate(request, on_computed)) as events,
        ):
            async for event in events:
                yield event

    async def resume(self, resume_id: str) -> AsyncGenerator[Event, None]:
        """Nothing is loaded for it: a worker that was unloaded has forgotten all."""
        if self.state is not LoadState.LOADED:
            raise StreamGone.unknown()
        async with (
            self._lease() as worker,
            aclosing(worker.resume(resume_id)) as events,
        ):
            async for event in events:
                yield event

    def forget(self, resume_id: str) -> None:
        if self.loaded is not None:
            self.loaded.worker.forget(resume_id)

    async def stay(self, keep_alive_s: float | None) -> None:
        """Loads the model if need be, and keeps it as long as a request could ask for; with
        0 it goes once nobody uses it, and one that is not loaded stays so.
        """
        if keep_alive_s == 0 and self.state is not LoadState.LOADED:
            return
        async with self._lease(keep_alive_s):
            pass

    def _worker_state(self) -> WorkerState:
        if self.state is LoadState.LOADING:
            return WorkerState.STARTING if self.is_preloading else WorkerState.LOADING
        return WorkerState.FAILED if self.state is LoadState.FAILED else WorkerState.UNLOADED

    # --- users and waiters ------------------------------------------------------------

    @property
    def num_users(self) -> int:
        return 0 if self.loaded is None else self.loaded.num_users

    @property
    def num_waiting(self) -> int:
        return sum(not waiter.done() for waiter in self._waiters)

    @property
    def stay_s(self) -> float:
        """How long it stays from now on when nobody uses it."""
        return (
            self.keep_alive_s
            if self.requested_keep_alive_s is None
            else self.requested_keep_alive_s
        )

    @property
    def is_idle(self) -> bool:
        return self.state is LoadState.LOADED and self.num_users == 0

    @asynccontextmanager
    async def _lease(self, keep_alive_s: float | None = None) -> AsyncIterator[ManagedWorker]:
        loaded = await self._acquire()
        if keep_alive_s is not None and loaded is self.loaded:
            self.requested_keep_alive_s = keep_alive_s
        try:
            yield loaded.worker
        finally:
            self._release(loaded)

    async def _acquire(self) -> LoadedModel:
        if self.state is LoadState.LOADED:
            assert self.loaded is not None
            self._stop_keep_alive()
            self.loaded.num_users += 1
            return self.loaded
        self._check_may_wait()
        waiter: asyncio.Future[LoadedModel] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        timer = self.clock.call_later(self.limits.wait_s, lambda: self._give_up(waiter))
        try:
            self.listener.on_wanted(self)
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                self._release(waiter.result())  # given just when the client went away
            raise
        finally:
            timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self.listener.on_left(self)

    def _release(self, loaded: LoadedModel) -> None:
        loaded.num_users -= 1
        assert loaded.num_users >= 0
        if loaded.num_users == 0 and loaded is self.loaded:
            self.became_idle()

    def _check_may_wait(self) -> None:
        if self.is_closing:
            raise ShuttingDown("The server is shutting down.")
        pause_s = self._retry_at_s - self.clock.time()
        if self.state is LoadState.FAILED and self.error is not None and pause_s > 0:
            raise self._unavailable(self.error, pause_s)
        if self.num_waiting >= self.limits.max_waiting:
            raise ModelLoading(
                f"The model '{self.model_id}' is not loaded yet ({self.progress.value}), and "
                f"{self.num_waiting} requests wait for it already, which is the limit."
            )

    def _give_up(self, waiter: asyncio.Future[LoadedModel]) -> None:
        if not waiter.done():
            waiter.set_exception(
                ModelLoading(
                    f"The model '{self.model_id}' was not loaded within {self.limits.wait_s:g} s "
                    f"(--load-wait-s): {self.progress.value}. Try again later."
                )
            )

    # --- what the owner does with it --------------------------------------------------

    def begin_load(self, *, is_preload: bool) -> None:
        assert self.state in (LoadState.UNLOADED, LoadState.FAILED), self.state
        assert self.loaded is None
        self.requested_keep_alive_s = None  # it was for the stay before
        self.state, self.progress, self.is_preloading = (
            LoadState.LOADING,
            LoadProgress.PREPARING,
            is_preload,
        )

    def finish_loading(self) -> None:
        """Everybody who waits may use it now."""
        assert self.state is LoadState.LOADING, self.state
        assert self.loaded is not None
        self.state, self.error, self._num_failures = LoadState.LOADED, None, 0
        self.loaded.loaded_s = self.clock.time()
        for waiter in self._take_waiters():
            self.loaded.num_users += 1
            waiter.set_result(self.loaded)
        if self.loaded.num_users == 0:
            self.became_idle()

    def became_idle(self) -> None:
        """Nobody uses it: from now on its keep-alive time runs."""
        assert self.loaded is not None
        self.loaded.idle_since_s = self.clock.time()
        self.listener.on_idle(self)

    def keep_alive(self, on_over: Callable[[], object]) -> None:
        if self.stay_s < math.inf:
            self._keep_alive = self.clock.call_later(self.stay_s, on_over)

    def begin_unload(self) -> None:
        assert self.state is LoadState.LOADED, self.state
        self.state = LoadState.UNLOADING
        self._stop_keep_alive()

    def lost(self) -> None:
        """Its worker has ended for good, though its memory may not be free yet."""
        self.begin_unload()
        self.loaded = None

    def gone(self) -> None:
        """There is no worker any more, and the reason is not that it failed."""
        self.state, self.loaded = LoadState.UNLOADED, None

    def fail(self, error: ApplianceError) -> None:
        """It cannot be loaded now, or was lost: that is the answer to whoever waits for
        it, and for a while to whoever asks for it.
        """
        self._stop_keep_alive()
        self.state, self.loaded, self.error = LoadState.FAILED, None, error
        self._num_failures += 1
        backoff_s = self.limits.first_backoff_s * 2.0 ** (min(self._num_failures, 32) - 1)
        backoff_s = min(backoff_s, self.limits.longest_backoff_s)
        self._retry_at_s = self.clock.time() + backoff_s
        for waiter in self._take_waiters():
            waiter.set_exception(self._unavailable(error, backoff_s))

    def close(self) -> None:
        """Nobody may wait any more."""
        self.is_closing = True
        self._stop_keep_alive()
        for waiter in self._take_waiters():
            waiter.set_exception(ShuttingDown("The server is shutting down."))

    def report(self) -> LoadReport:
        loaded, now_s = self.loaded, self.clock.time()
        idle_s = now_s - loaded.idle_since_s if loaded is not None and self.is_idle else None
        unload_in_s = (
            None if idle_s is None or self.stay_s == math.inf else max(0.0, self.stay_s - idle_s)
        )
        return LoadReport(
            state=self.state,
            num_users=self.num_users,
            num_waiting=self.num_waiting,
            progress=self.progress.value if self.state is LoadState.LOADING else None,
            error=None if self.error is None else self.error.message,
            keep_alive_s=self.stay_s,
            predicted_bytes=None if loaded is None else loaded.plan.need_bytes,
            plan=None if loaded is None else loaded.plan,
            is_reduced=loaded is not None and loaded.is_reduced,
            idle_s=idle_s,
            unload_in_s=unload_in_s,
        )

    def _take_waiters(self) -> list[asyncio.Future[LoadedModel]]:
        waiters = [waiter for waiter in self._waiters if not waiter.done()]
        self._waiters.clear()
        return waiters

    def _stop_keep_alive(self) -> None:
        if self._keep_alive is not None:
            self._keep_alive.cancel()
            self._keep_alive = None

    def _unavailable(self, error: ApplianceError, pause_s: float) -> ModelUnavailable:
        return ModelUnavailable(
            f"The model '{self.model_id}' cannot be loaded now: {error.message}",
            retry_after_s=math.ceil(pause_s),
        )
