"""A model on this machine's GPUs: what the plan foresaw against what is taken, and
tokens a second with and without.

Run: python -m bench.gpu_run MODEL.gguf [--layers 0,auto] [--ctx N] [--prompt TOKENS]
[--answer TOKENS] [--json] Each setting is a worker of its own, planned as `appliance
serve` plans it. What is taken of a GPU is told twice: what llama.cpp says it has
allocated, and what of its memory is gone while the worker is loaded, of which another
part is the driver's own for a process that uses the GPU. Nothing else should use the
GPUs meanwhile. Without one, only the layers 0 can be run. Results are for
docs/guide/gpu.md, with the date and the names of GPU and driver.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from appliance.cli.progress_lines import ProgressLines
from appliance.cli.tables.placement import as_text
from appliance.errors import ApplianceError
from appliance.fit.plan.planner import Plan
from appliance.fit.tuning.choices import Tuning
from appliance.launch.files import prepare_model
from appliance.launch.machine import list_gpus, measure_machine
from appliance.launch.planning import launch_of
from appliance.launch.planning import plan as plan_launch
from appliance.launch.spec import ModelSpec
from appliance.launch.worker import worker_config
from appliance.protocol.events import Delta, Finished
from appliance.protocol.kernel_use import NO_KERNELS
from appliance.protocol.requests import GenerateRequest, TokenPrompt
from appliance.protocol.sampling import SamplingParams
from appliance.settings import ModelSettings, ServerOptions, load
from appliance.worker.supervisor import Supervisor
from bench.model_file import model_file

_HOME = {"HOME": str(Path.home())}
_MIB = 1 << 20
_GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)


@dataclass(frozen=True)
class GpuBytes:
    """Of one GPU: planned, allocated by llama.cpp's own account,
    and gone from what was free.
    """

    name: str
    planned_bytes: int
    allocated_bytes: int
    gone_bytes: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """One setting of `--gpu-layers`, and what came of it."""

    asked: str
    gpu_layers: int
    num_layers: int
    gpus: tuple[GpuBytes, ...]
    prefill_tokens_per_s: float
    decode_tokens_per_s: float


def spec_for(args: argparse.Namespace, layers: str, state_dir: Path) -> ModelSpec:
    """As if given by flags, whatever a settings file says."""
    flags = {"config": os.devnull, "gpu_layers": layers, "slots": "1"}
    if args.ctx is not None:
        flags["ctx"] = str(args.ctx)
    places = load(ServerOptions, {"config": os.devnull, "state_dir": str(state_dir)}, _HOME)
    return ModelSpec(
        argument=str(args.model),
        settings=load(ModelSettings, flags, _HOME),
        models_dir=places.models_dir,
        state_dir=places.state_dir,
    )


def plan_for(spec: ModelSpec) -> Plan:
    """With plain weights, whatever the CPU path: the comparison is with what `serve`
    does beside a GPU.
    """
    on_event = ProgressLines(sys.stderr)
    launch = launch_of(spec, prepare_model(spec, on_event), measure_machine(spec, on_event))
    return plan_launch(launch, Tuning())


async def run(args: argparse.Namespace, layers: str, state_dir: Path) -> Run:
    spec = spec_for(args, layers, state_dir)
    free_before = free_bytes()
    plan = plan_for(spec)
    print(as_text(plan.placement) or "all in RAM", file=sys.stderr)
    supervisor = Supervisor(worker_config(plan, spec, NO_KERNELS))
    await supervisor.start()
    try:
        info = supervisor.info
        assert info is not None
        prompt = random.Random(0).choices(range(info.num_vocab), k=args.prompt)
        # kernels are loaded and buffers grown
        await timed(supervisor, prompt[: args.prompt // 2], 8)
        prefill_s, decode_s = await timed(supervisor, prompt[::-1], args.answer)
        free_now = free_bytes()
    finally:
        await supervisor.stop()
    gpus = [
        GpuBytes(
            name=share.gpu.name,
            planned_bytes=share.total_bytes,
            allocated_bytes=info.gpu_bytes[share.gpu.name],
            gone_bytes=free_before[share.gpu.name] - free_now[share.gpu.name],
        )
        for share in plan.placement.shares
    ]
    return Run(
        asked=layers,
        gpu_layers=info.gpu_layers,
        num_layers=plan.placement.num_layers,
        gpus=tuple(gpus),
        prefill_tokens_per_s=args.prompt / prefill_s,
        decode_tokens_per_s=(args.answer - 1) / decode_s,
    )


def free_bytes() -> dict[str, int]:
    """As another process sees it:
    that process's own share is gone in both measurements alike.
    """
    return {gpu.name: gpu.memory_free_bytes for gpu in list_gpus().accelerators}


async def timed(supervisor: Supervisor, prompt: list[int], num_tokens: int) -> tuple[float, float]:
    """Seconds until the first token, and from there to the last."""
    request = GenerateRequest(prompt=TokenPrompt(prompt), sampling=_GREEDY, max_tokens=num_tokens)
    started_s = first_s = time.perf_counter()
    is_first = True
    async for event in supervisor.generate(request):
        if isinstance(event, Delta | Finished) and is_first:
            first_s, is_first = time.perf_counter(), False
    return first_s - started_s, time.perf_counter() - first_s


def report(runs: list[Run]) -> str:
    """Two Markdown tables."""
    lines = ["| layers on GPUs | prefill, tokens/s | decode, tokens/s |", "|---|---|---|"]
    for run in runs:
        lines.append(
            f"| {run.gpu_layers} of {run.num_layers} | {run.prefill_tokens_per_s:.0f} | "
            f"{run.decode_tokens_per_s:.1f} |"
        )
    lines += [
        "",
        "| layers | GPU | planned, MiB | allocated | error | gone |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        for gpu in run.gpus:
            error = (
                f"{100 * (gpu.planned_bytes / gpu.allocated_bytes - 1):+.1f} %"
                if gpu.allocated_bytes
                else "-"
            )
            sizes = (gpu.planned_bytes // _MIB, gpu.allocated_bytes // _MIB, gpu.gone_bytes // _MIB)
            lines.append(
                f"| {run.gpu_layers} | {gpu.name} | {sizes[0]} | {sizes[1]} | {error} | "
                f"{sizes[2]} |"
            )
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_run", description=__doc__)
    parser.add_argument("model", type=model_file)
    parser.add_argument(
        "--layers", default="0,auto", help="settings of --gpu-layers, separated by commas"
    )
    parser.add_argument(
        "--ctx", type=int, help="longest request in tokens (default: as `appliance serve` chooses)"
    )
    parser.add_argument(
        "--prompt", type=int, default=1024, help="tokens of the prompt that is timed"
    )
    parser.add_argument(
        "--answer", type=int, default=128, help="tokens of the answer that is timed"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="appliance-gpu-run-") as folder:
        try:
            runs = [
                asyncio.run(run(args, layers, Path(folder))) for layers in args.layers.split(",")
            ]
        except ApplianceError as error:
            print(f"error: {error.message}", file=sys.stderr)
            return error.exit_code
    text = (
        json.dumps([dataclasses.asdict(run) for run in runs], indent=2)
        if args.json
        else report(runs)
    )
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
