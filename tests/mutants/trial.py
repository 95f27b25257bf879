"""One file through all that `appliance serve` does with it, and what became of it.

Knows no fault. The parent's side runs here as it does in a server (header, plan, dry load,
supervisor, requests); the children are warm ones of the nursery.
"""

from __future__ import annotations

import asyncio
import enum
import json
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from appliance.errors import ApplianceError, SetupError
from appliance.fit.plan.planner import Plan
from appliance.launch.checked_plan import checked_plan
from appliance.launch.files import prepare_model
from appliance.launch.machine import Machine, measure_machine
from appliance.launch.planning import estimate, launch_of
from appliance.launch.spec import ModelSpec
from appliance.launch.tuning.recall import default_tuning
from appliance.launch.worker import worker_config
from appliance.llama.checks import DryLoads
from appliance.protocol.events import Finished
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import (
    ChatPrompt,
    EmbedRequest,
    GenerateRequest,
    Grammar,
    TextPrompt,
)
from appliance.protocol.sampling import SamplingParams
from appliance.settings import ModelSettings
from appliance.worker.crash import Crash
from appliance.worker.patience import Patience
from appliance.worker.supervisor import Supervisor
from tests.mutants.nursery import MODULES

RAM_BYTES = 400 << 20  # what a plan may take, the parent's share included
HANGS_AFTER_S = 60.0  # of the wall, on a busy machine; a case takes a second
_RELAY = Path(__file__).with_name("relay.py")
_PATIENCE = Patience(load_s=HANGS_AFTER_S, silence_s=30.0, step_s=30.0, prepare_s=30.0, stop_s=20.0)
_WORKER, _DRY_LOAD = MODULES
_GREEDY = SamplingParams(temperature=0.0)
_REQUESTS = (
    GenerateRequest(prompt=TextPrompt("It was a dark night"), sampling=_GREEDY, max_tokens=4),
    GenerateRequest(
        prompt=ChatPrompt(messages=[{"role": "user", "content": "Hi! 日本 😀 <|end|>"}]),
        sampling=SamplingParams(seed=1),
        max_tokens=4,
    ),
    GenerateRequest(
        prompt=TextPrompt("a b " * 30),
        max_tokens=3,
        grammar=Grammar(GrammarKind.REGEX, "[a-z ]{1,3}", "guided_regex"),
    ),
)


class Outcome(str, enum.Enum):
    """What became of a file; only the first four are allowed."""

    REFUSED = "refused by its header or plan"
    NOT_LOADED = "refused by llama.cpp in words"
    SERVED = "served"
    REQUESTS_FAILED = "served, with a request refused in words"
    DIED_PLANNING = "a dry load died of it"
    DIED_LOADING = "a worker died loading it"
    DIED_WORKING = "a worker died at work"
    HUNG = "hung"
    TOO_LARGE = "took more memory than planned"
    RAISED = "the parent raised"

    @property
    def is_allowed(self) -> bool:
        return self in (
            Outcome.REFUSED,
            Outcome.NOT_LOADED,
            Outcome.SERVED,
            Outcome.REQUESTS_FAILED,
        )


@dataclass(frozen=True)
class Verdict:
    """What became of a file, and why in words."""

    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Children:
    """Where children come from, and what is told of their ends."""

    socket: Path
    log: Path  # a JSON object per end
    errors: Path  # what they wrote
    state_dir: Path

    def command(self, module: str) -> tuple[str, ...]:
        relay = (sys.executable, "-I", "-S", str(_RELAY), str(self.socket), str(self.log))
        return (*relay, str(self.errors), module)

    def take_ends(self) -> list[dict[str, object]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def take_errors(self) -> str:
        text = self.errors.read_text(errors="replace") if self.errors.exists() else ""
        self.errors.unlink(missing_ok=True)
        return text


@asynccontextmanager
async def nursery(state_dir: Path | None = None) -> AsyncIterator[Children]:
    """`state_dir` keeps what is known of the machine, where it is to be kept.

    Raises `EOFError` where it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="nursery-") as name:
        folder = Path(name)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.mutants.nursery", str(folder / "socket")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise EOFError("the nursery did not start")
        try:
            yield Children(
                socket=folder / "socket",
                log=folder / "ends",
                errors=folder / "errors",
                state_dir=state_dir or folder / "state",
            )
        finally:
            process.stdin.close()
            await process.wait()


def machine_of(children: Children) -> Machine:
    """Measured once for all cases (seconds)."""
    return measure_machine(_spec(Path(), children), lambda _event: None)


async def try_file(path: Path, children: Children, machine: Machine) -> Verdict:
    """Nothing but a defect of the appliance raises."""
    began_s = time.monotonic()
    try:
        verdict = await _tried(path, children, machine)
    except ApplianceError as error:
        verdict = Verdict(Outcome.REFUSED, error.message)
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        verdict = Verdict(Outcome.RAISED, f"{type(error).__name__}: {error}")
    seconds = time.monotonic() - began_s
    if seconds > HANGS_AFTER_S and verdict.outcome.is_allowed:
        verdict = Verdict(Outcome.HUNG, verdict.reason)
    return replace(verdict, seconds=seconds)


async def _tried(path: Path, children: Children, machine: Machine) -> Verdict:
    """Raises `ApplianceError` where the parent refuses it before any worker starts."""
    children.take_ends()
    children.take_errors()
    spec = _spec(path, children)
    plan = await asyncio.to_thread(_planned, spec, machine, children)
    config = msgspec.structs.replace(worker_config(plan, spec, machine, ()), log_level="error")
    crashes: list[Crash] = []
    supervisor = Supervisor(config, _PATIENCE, crashes.append, command=children.command(_WORKER))
    verdict = await _served(supervisor, crashes, embeds=plan.embeds)
    return _with_ends(verdict, plan, children)


def _spec(path: Path, children: Children) -> ModelSpec:
    return ModelSpec(
        argument=str(path),
        settings=ModelSettings(threads=1),
        models_dir=children.state_dir / "models",
        state_dir=children.state_dir,
        ram=RAM_BYTES,
    )


def _planned(spec: ModelSpec, machine: Machine, children: Children) -> Plan:
    model = prepare_model(spec, lambda _event: None)
    launch = launch_of(spec, model, machine)
    tuning = default_tuning(machine)
    dry_loads = DryLoads(
        children.state_dir / "dry_loads.json", children.command(_DRY_LOAD), machine.kernels
    )
    return checked_plan(lambda budget: estimate(launch, tuning, budget), launch.budget, dry_loads)


async def _served(supervisor: Supervisor, crashes: list[Crash], *, embeds: bool) -> Verdict:
    try:
        await supervisor.start()
    except SetupError as error:
        is_told = crashes and crashes[-1].load_error is not None
        return Verdict(Outcome.NOT_LOADED if is_told else Outcome.DIED_LOADING, error.message)
    refusals: list[str] = []
    try:
        for request in (EmbedRequest([TextPrompt("a text")]),) if embeds else _REQUESTS:
            refusal = await asyncio.wait_for(_refusal(supervisor, request), HANGS_AFTER_S)
            if supervisor.health().num_restarts or "lost" in (refusal or ""):
                return Verdict(Outcome.DIED_WORKING, supervisor.health().last_error or "")
            refusals += [refusal] if refusal else []
    except asyncio.TimeoutError:
        return Verdict(Outcome.HUNG, "a request has no end")
    finally:
        await supervisor.stop()
    if refusals:
        return Verdict(Outcome.REQUESTS_FAILED, "; ".join(refusals))
    return Verdict(Outcome.SERVED)


async def _refusal(supervisor: Supervisor, request: GenerateRequest | EmbedRequest) -> str | None:
    """In words why there is no answer; None if there is one.

    Raises `AssertionError` where the words are those of a defect.
    """
    try:
        if isinstance(request, EmbedRequest):
            await supervisor.embed(request)
            return None
        events = [event async for event in supervisor.generate(request)]
    except ApplianceError as error:
        refused = error
    else:
        assert isinstance(events[-1], Finished), events[-1]
        return None
    assert refused.code != ApplianceError.code, refused.message
    return refused.message


def _with_ends(verdict: Verdict, plan: Plan, children: Children) -> Verdict:
    """Looks at how the children ended, and at what they took."""
    need = plan.need
    allowed_bytes = need.own_bytes + need.code_bytes + plan.budget.headroom_bytes
    stop = verdict.outcome in (Outcome.HUNG, Outcome.DIED_LOADING, Outcome.DIED_WORKING)
    for end in children.take_ends():
        status, peak_bytes = int(str(end["status"])), int(str(end["peak_bytes"]))
        # of an assertion that failed the parent knows: it plans without
        is_told = status >= 0 or status == -signal.SIGABRT
        if end["module"] == _DRY_LOAD and not is_told and not stop:
            name = signal.Signals(-status).name
            verdict = Verdict(Outcome.DIED_PLANNING, f"{name}; then {verdict.outcome.value}")
        if peak_bytes > allowed_bytes:
            text = f"{end['module']} took {peak_bytes >> 20} MiB of {allowed_bytes >> 20}"
            verdict = Verdict(Outcome.TOO_LARGE, text)
    if verdict.outcome.is_allowed:
        return verdict
    last = children.take_errors().splitlines()[-3:]
    return replace(verdict, reason=f"{verdict.reason}: {' | '.join(last)}")
