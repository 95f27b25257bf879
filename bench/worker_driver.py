"""The parent's side of a timed worker: starts it, sends requests, reads every frame,
and splits its time into steps.

Knows the worker's messages and `bench.timed_worker`; knows no workloads and judges
nothing.
"""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.errors import from_record
from appliance.protocol.events import Event, Failed
from appliance.protocol.requests import GenerateRequest
from appliance.worker.channel import BlockingChannel
from appliance.worker.config import WorkerConfig
from appliance.worker.frames import (
    Cancel,
    Load,
    LoadError,
    Ready,
    StepEvents,
    Stop,
    Submit,
    decode_from_worker,
    encode,
)
from bench.timed_worker import DECODE, NativeCall

ROOT = Path(__file__).parent.parent
_STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """From one decode's start to the next one's:
    `ours_s` is what is neither decoding nor sampling.

    `ours_cpu_s` is the part of `ours_s` in which the worker's main thread was
    computing: what a busy machine does not lengthen by making it wait for a core.
    """

    num_rows: int
    started_s: float
    elapsed_s: float
    ours_s: float
    ours_cpu_s: float


class TimedWorker:
    """A worker process with a loaded model.

    Raises its `ApplianceError`s, and `ChannelClosed` wherever it died.
    """

    def __init__(self, config: WorkerConfig, folder: Path) -> None:
        self._calls_file = folder / "calls.msgpack"
        self._ids = itertools.count(1)
        ours, theirs = socket.socketpair()
        with theirs:
            command = [
                sys.executable,
                "-m",
                "bench.timed_worker",
                str(theirs.fileno()),
                str(self._calls_file),
            ]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT)
        self._socket = ours
        self._channel = BlockingChannel(ours)
        self._channel.send(encode(Load(config)))
        answer = decode_from_worker(self._channel.receive())
        if isinstance(answer, LoadError):
            raise from_record(answer.error)
        assert isinstance(answer, Ready), answer

    def submit(self, request: GenerateRequest) -> int:
        """Sends a request and returns its id."""
        request_id = next(self._ids)
        self._channel.send(encode(Submit(request_id, request)))
        return request_id

    def cancel(self, request_id: int) -> None:
        self._channel.send(encode(Cancel(request_id)))

    def events(self) -> Iterator[Event]:
        """Every event from now on, each frame decoded as the serving parent does it.

        Raises the error of a request that fails.
        """
        while True:
            message = decode_from_worker(self._channel.receive())
            if isinstance(message, StepEvents):
                for event in message.events:
                    if isinstance(event, Failed):
                        raise from_record(event.error)
                    yield event

    def stop(self) -> list[Step]:
        """Ends the process and returns all its steps,
        those before the first request included.
        """
        self._channel.send(encode(Stop()))
        self._process.wait(_STOP_TIMEOUT_S)
        self._socket.close()
        return split_into_steps(
            msgspec.msgpack.decode(self._calls_file.read_bytes(), type=list[NativeCall])
        )

    def kill(self) -> None:
        """For after a failure; nothing to do for a process that has ended."""
        self._process.kill()
        self._process.wait(_STOP_TIMEOUT_S)


def split_into_steps(calls: Sequence[NativeCall]) -> list[Step]:
    """One step per decode but the last, of which nobody knows when it ended."""
    decodes = [at for at, call in enumerate(calls) if call.name == DECODE]
    return [_step(calls[first:after], calls[after]) for first, after in itertools.pairwise(decodes)]


def _step(calls: Sequence[NativeCall], following: NativeCall) -> Step:
    first = calls[0]
    elapsed_s = following.started_s - first.started_s
    cpu_s = following.cpu_started_s - first.cpu_started_s
    native_cpu_s = sum(call.cpu_ended_s - call.cpu_started_s for call in calls)
    return Step(
        num_rows=first.num_rows,
        started_s=first.started_s,
        elapsed_s=elapsed_s,
        ours_s=elapsed_s - sum(call.elapsed_s for call in calls),
        ours_cpu_s=cpu_s - native_cpu_s,
    )


def now_s() -> float:
    """The clock of `Step.started_s`: CLOCK_MONOTONIC, the same in every process of a
    Linux machine.
    """
    return time.perf_counter()
