"""What happens when a model cannot be loaded onto GPUs: fewer layers once, then the
CPU; other deaths are others'.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace

import msgspec
import pytest

from appliance.errors import LoadFailed, NothingFits
from appliance.fit.plan.offload import GpuOverrides, Offload
from appliance.launch.fallback.gpu_layers import GpuFallback
from appliance.protocol.context_sizes import ContextSizes
from appliance.worker.config import WorkerConfig
from appliance.worker.crash import Crash, Remedy
from appliance.worker.supervisor import Supervisor
from tests.conftest import Embedded
from tests.worker_configs import plain_config

OUT_OF_MEMORY = Crash(
    1, was_ready=False, load_error="llama.cpp could not load m.gguf: cudaMalloc failed"
)
ABORTED = Crash(-signal.SIGABRT, was_ready=False)
AT_WORK = Crash(-signal.SIGABRT, was_ready=True)


def config_with(layers: int) -> WorkerConfig:
    offload = (
        Offload(gpu_layers=layers, devices=("CUDA0",), kv_on_gpu=True) if layers else Offload()
    )
    return plain_config(
        model_path="m.gguf",
        sizes=ContextSizes(
            slots=1,
            kv_cells=64,
            kv_type="f16",
            threads=1,
            max_rows=64,
            batch_threads=1,
            ubatch_rows=64,
        ),
        ctx=64,
        offload=offload,
    )


@dataclass
class Planner:
    """Plans as many layers as fit now; a wish for none gives none.

    `overrides` are those it was asked.
    """

    fit_now: int
    refuses: bool = False
    overrides: list[GpuOverrides] = field(default_factory=list)

    def __call__(self, gpu_overrides: GpuOverrides) -> WorkerConfig:
        self.overrides.append(gpu_overrides)
        if self.refuses:
            raise NothingFits("Nothing fits.")
        return config_with(
            min(self.fit_now, gpu_overrides.most_layers) if gpu_overrides.gpu_layers is None else 0
        )


def fallback(
    layers: int, planner: Planner, gpu_overrides: GpuOverrides | None = None
) -> GpuFallback:
    return GpuFallback(
        layers, gpu_overrides or GpuOverrides(), planner, lambda crash: Remedy(f"other: {crash}")
    )


def offloaded(remedy: Remedy | None) -> int:
    assert remedy is not None
    assert remedy.config is not None
    return remedy.config.offload.gpu_layers


@pytest.mark.parametrize("crash", [OUT_OF_MEMORY, ABORTED, Crash(-signal.SIGSEGV, was_ready=False)])
def test_a_load_that_fails_is_tried_with_three_quarters_of_the_layers_then_without(
    crash: Crash,
) -> None:
    planner = Planner(fit_now=33)
    answer = fallback(33, planner, GpuOverrides(gpu_layers=33))

    first, second = answer(crash), answer(crash)
    assert (offloaded(first), offloaded(second)) == (24, 0)
    assert first is not None
    assert second is not None
    assert first.reason == "going on with 24 layers on GPUs instead of 33 (see docs/guide/gpu.md)"
    assert second.reason == "going on with the CPU alone (see docs/guide/gpu.md)"
    assert answer(crash) == Remedy(f"other: {crash}"), "on the CPU, no GPU is to blame"


def test_a_gpu_that_is_gone_leaves_the_cpu_at_once() -> None:
    assert offloaded(fallback(33, Planner(fit_now=0))(OUT_OF_MEMORY)) == 0


def test_without_any_way_out_the_reasons_are_told() -> None:
    remedy = fallback(33, Planner(33, refuses=True))(OUT_OF_MEMORY)
    assert remedy == Remedy(
        "nothing can be served without those layers on GPUs: Nothing fits.; Nothing fits."
    )


def test_an_abort_at_work_costs_layers_once_and_never_all() -> None:
    planner = Planner(fit_now=33)
    answer = fallback(33, planner)

    assert offloaded(answer(AT_WORK)) == 24
    assert answer(AT_WORK) == Remedy(f"other: {AT_WORK}")
    assert len(planner.overrides) == 1


@pytest.mark.parametrize(
    "crash",
    [
        Crash(-signal.SIGILL, was_ready=False),  # the CPU path's
        Crash(-signal.SIGKILL, was_ready=False),  # RAM was short, or a person
        Crash(-signal.SIGSEGV, was_ready=True),
    ],
)
def test_other_deaths_are_not_the_gpus_fault(crash: Crash) -> None:
    assert fallback(33, Planner(33))(crash) == Remedy(f"other: {crash}")


def test_without_layers_on_gpus_none_is_to_blame() -> None:
    assert fallback(0, Planner(33))(OUT_OF_MEMORY) == Remedy(f"other: {OUT_OF_MEMORY}")


async def test_a_real_worker_that_has_no_such_gpu_goes_on_with_the_cpu(embedded: Embedded) -> None:
    """The plan saw a GPU; the library or the machine has none: what a GPU that is gone
    looks like to a worker.
    """
    config = config_with(0)
    on_cpu = msgspec.structs.replace(
        config,
        model_path=str(embedded.files["Q4_K_M"]),
        sizes=replace(config.sizes, kv_cells=256),
    )
    on_gpu = msgspec.structs.replace(
        on_cpu,
        offload=Offload(gpu_layers=3, devices=("NOGPU0",), tensor_split=(3.0,), kv_on_gpu=True),
    )

    alone = Supervisor(on_gpu)
    with pytest.raises(
        LoadFailed, match=r"3 layers are to go to a GPU.*install\.sh --cuda|NOGPU0 is no longer"
    ):
        await alone.start()
    await alone.stop()

    supervisor = Supervisor(
        on_gpu,
        on_crash=GpuFallback(3, GpuOverrides(), lambda _gpu_overrides: on_cpu, lambda _crash: None),
    )
    await supervisor.start()
    try:
        assert supervisor.info is not None
        assert (supervisor.info.gpu_layers, supervisor.info.gpu_bytes) == (0, {})
        assert "going on with the CPU alone" in (supervisor.health().last_error or "")
    finally:
        await supervisor.stop()
