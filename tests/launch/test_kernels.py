"""Which kernels are used: by the setting, and by what their test found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import BadSettings
from appliance.fit.machine.device import measure_device
from appliance.launch import kernels as launch_kernels
from appliance.launch.kernels import kernel_memory, kernel_use
from appliance.launch.machine import Machine
from appliance.launch.time_budget import TimeBudget
from appliance.launch.tuning.recall import default_tuning
from appliance.llama.checks import (
    CpuPaths,
    KernelLibrary,
    KernelResult,
    KernelTest,
    PathResult,
)
from appliance.protocol.kernel_use import NO_KERNELS, KernelUse
from tests.launch.specs import Events, spec_of

LIBRARY = KernelLibrary(Path("kernels.so"), "abc")
QUICK = KernelResult(name="attention f16", error=0.0, speedups={8: 2.0})
SLOW = KernelResult(name="matmul f16", error=0.0, speedups={8: 0.5})
TEST = KernelTest(version="v1", variant="avx2", results=(QUICK, SLOW))
WORKS = PathResult(True, "works")


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_kernels, "find_kernels", lambda: LIBRARY)


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch) -> Callable[[KernelTest], list[float]]:
    """What the test finds; the times it is given."""
    limits: list[float] = []

    def find(test: KernelTest) -> list[float]:
        def run(
            _library: KernelLibrary, _threads: int, *, limit_s: float, known: KernelTest | None
        ) -> KernelTest:
            limits.append(limit_s)
            return test

        monkeypatch.setattr(launch_kernels, "run_kernel_test", run)
        return limits

    return find


class Others:
    """Programs that take their share of the CPUs' time."""

    taken = 0.0

    def share(self) -> float:
        return self.taken


@pytest.fixture(autouse=True)
def others(monkeypatch: pytest.MonkeyPatch) -> type[Others]:
    monkeypatch.setattr(Others, "taken", 0.0)
    monkeypatch.setattr(launch_kernels, "OtherWork", Others)
    return Others


def use(folder: Path, budget: TimeBudget | None = None, **settings: object) -> KernelUse:
    return kernel_use(spec_of(folder, **settings), measure_device(), Events(), budget)


def test_those_that_passed_are_used_and_tested_once(
    tmp_path: Path, tested: Callable[[KernelTest], list[float]]
) -> None:
    limits = tested(TEST)
    assert use(tmp_path) == KernelUse("kernels.so", "abc", ("attention f16",))
    assert use(tmp_path, kernels="on").names == ("attention f16", "matmul f16")
    assert use(tmp_path, kernels="off") == NO_KERNELS
    assert len(limits) == 1


def test_without_time_there_are_none_yet(
    tmp_path: Path, tested: Callable[[KernelTest], list[float]]
) -> None:
    limits = tested(TEST)
    assert use(tmp_path, TimeBudget(0)) == NO_KERNELS
    assert limits == []
    tested(KernelTest(version="v1", results=(QUICK,), left=("matmul f16",)))
    assert use(tmp_path, TimeBudget(60)).names == ("attention f16",)
    assert use(tmp_path, TimeBudget(0)).names == ("attention f16",)
    tested(TEST)
    assert use(tmp_path, TimeBudget(0), kernels="on").names, "who wants them waits"
    assert use(tmp_path / "exact", TimeBudget(0), exact=True).names, "and who wants what they give"
    assert kernel_memory(tmp_path / "state").recall(LIBRARY) == TEST


def test_on_a_busy_machine_none_loses_for_ever(
    tmp_path: Path, tested: Callable[[KernelTest], list[float]], others: type[Others]
) -> None:
    limits = tested(TEST)
    others.taken = 0.5
    assert use(tmp_path).names == ("attention f16",)
    others.taken = 0.0
    assert use(tmp_path).names == ("attention f16",)
    assert use(tmp_path).names == ("attention f16",)
    assert len(limits) == 2
    others.taken = 0.5
    wanted = use(tmp_path / "on", kernels="on")
    assert wanted.names == ("attention f16", "matmul f16"), "right is enough"


def test_a_crash_is_told_and_remembered(
    tmp_path: Path, tested: Callable[[KernelTest], list[float]]
) -> None:
    limits = tested(KernelTest(failure="their test died of SIGILL in matmul f16"))
    events = Events()
    assert kernel_use(spec_of(tmp_path), measure_device(), events) == NO_KERNELS
    assert events[-1].is_warning
    assert "died of SIGILL in matmul f16" in events[-1].text
    kernel_use(spec_of(tmp_path), measure_device(), again := Events())
    assert [event.text for event in again] == [events[-1].text], "at every start"
    with pytest.raises(BadSettings, match="died of SIGILL in matmul f16"):
        use(tmp_path, kernels="on")
    assert len(limits) == 1


def test_an_installation_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_kernels, "find_kernels", lambda: "were not built: no compiler")
    events = Events()
    assert kernel_use(spec_of(tmp_path), measure_device(), events) == NO_KERNELS
    assert events[-1].text == "llama.cpp's own kernels compute: ours were not built: no compiler"
    with pytest.raises(BadSettings, match="--kernels on is not possible: they were not built"):
        use(tmp_path, kernels="on")


@pytest.mark.parametrize(
    ("names", "flash_attention"), [(("attention f16",), True), (("matmul q4_k",), None)]
)
def test_flash_attention_follows_the_kernel_for_it(
    names: tuple[str, ...], flash_attention: bool | None
) -> None:
    machine = Machine(
        measure_device(), CpuPaths(WORKS, WORKS), "none", KernelUse("kernels.so", "abc", names)
    )
    assert default_tuning(machine).flash_attention is flash_attention
    assert not default_tuning(machine).use_extra_bufts


def test_what_was_computed_with_others_has_another_key() -> None:
    identities = {
        NO_KERNELS.identity,
        KernelUse("kernels.so", "abc", ("rows",)).identity,
        KernelUse("kernels.so", "abc", ("rows", "matmul f16")).identity,
        KernelUse("kernels.so", "abd", ("rows",)).identity,
    }
    assert len(identities) == 4
    assert NO_KERNELS.identity == "none"
