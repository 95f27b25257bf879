"""Pulls and converts a model in a child process, or plans to, so that a server goes on
meanwhile.

Knows no serving.

The child reads a `ModelSpec` from standard input, and writes JSON lines to standard
output: any number of events, then what it found, or where something went wrong one error.

Usage: python -m appliance.launch.prepare_child [plan]
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from types import FrameType

import msgspec

from appliance.errors import ApplianceError, ErrorRecord, SetupError, from_record
from appliance.gateway.library.offers import PullPlan
from appliance.launch.files import find_source, prepare_model
from appliance.launch.spec import ModelSpec
from appliance.store.event import OnEvent, StoreEvent
from appliance.time_limit import within

_END_S = 15.0  # it has to end children of its own


class _Progress(msgspec.Struct, tag=True):
    text: str
    done_bytes: int
    total_bytes: int
    is_warning: bool


class _Failure(msgspec.Struct, tag=True):
    error: ErrorRecord


class _Found(msgspec.Struct, tag=True):
    plan: PullPlan


_Message = _Progress | _Failure | _Found
_decode = msgspec.json.Decoder(_Message).decode
_PLAN = "plan"


async def plan_in_child(spec: ModelSpec, on_event: OnEvent) -> PullPlan:
    """What `prepare_in_child` would fetch. Raises what `plan_pull` raises."""
    found = await _in_child(spec, on_event, _PLAN)
    assert found is not None, "it has not failed"
    return found


async def prepare_in_child(spec: ModelSpec, on_event: OnEvent) -> None:
    """Makes the files of the model that `spec` names ready.

    Cancelling ends it, and keeps what has arrived. Raises what `prepare_model` and
    `pull_missing` raise.
    """
    await _in_child(spec, on_event)


async def _in_child(spec: ModelSpec, on_event: OnEvent, *words: str) -> PullPlan | None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "appliance.launch.prepare_child", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # a terminal's Ctrl-C is for the server, which then ends this
    )
    failure: ErrorRecord | None = None
    found: PullPlan | None = None
    try:
        await _send(process, spec.to_bytes())
        async for message in _messages(process):
            if isinstance(message, _Failure):
                failure = message.error
            elif isinstance(message, _Found):
                found = message.plan
            else:
                on_event(StoreEvent(**msgspec.structs.asdict(message)))
        await process.wait()
    except BaseException:
        await _end(process)
        raise
    if failure is not None:
        raise from_record(failure)
    if process.returncode != 0:
        raise SetupError(
            f"The files of {spec.argument} could not be prepared (exit code "
            f"{process.returncode}). The lines above say why."
        )
    return found


async def _send(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: its status says so
        process.stdin.write(data)
        await process.stdin.drain()
        process.stdin.close()


async def _messages(process: asyncio.subprocess.Process) -> AsyncIterator[_Message]:
    assert process.stdout is not None
    async for line in process.stdout:
        yield _decode(line)


async def _end(process: asyncio.subprocess.Process) -> None:
    """With all that it has started: they are one process group, whose number is the
    first one's.
    """
    _signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(asyncio.TimeoutError):
        await within(_END_S, process.wait())
    _signal_group(process.pid, signal.SIGKILL)
    await process.wait()


def _signal_group(number: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of them have ended
        os.killpg(number, what)


def main() -> int:
    signal.signal(signal.SIGTERM, _stop)
    lines = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints would garble our lines

    def write(message: _Message) -> None:
        try:
            lines.write(msgspec.json.encode(message) + b"\n")
            lines.flush()
        except BrokenPipeError:  # the parent is gone: nobody wants the files
            sys.exit(1)

    def on_event(event: StoreEvent) -> None:
        write(_Progress(**asdict(event)))

    try:
        spec = ModelSpec.from_bytes(sys.stdin.buffer.read())
        if _PLAN in sys.argv[1:]:
            from appliance.launch.pulling import plan_pull

            write(_Found(plan_pull(spec, on_event)))
            return 0
        if find_source(spec).must_be_pulled or spec.settings.draft != "off":
            # here: a hub's client takes memory and time to import
            from appliance.launch.pulling import pull_missing

            pull_missing(spec, on_event)
        prepare_model(spec, on_event)
    except ApplianceError as error:
        write(_Failure(error.record()))
        return error.exit_code
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    """Leaves through every `finally`, so that children are ended too."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
