"""When a model's file is blamed, and what is served instead."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from appliance.errors import AdapterFailed, NothingFits
from appliance.launch.fallback.quantization import QuantizationFallback, Way
from appliance.launch.files import PreparedModel
from appliance.launch.quarantine import QUARANTINED_FOR_S, Quarantine
from appliance.protocol.context_sizes import ContextSizes
from appliance.store.gguf_header import read_header
from appliance.worker.crash import Crash, Remedy
from tests.store.samples import Sample, write_sample
from tests.worker_configs import plain_config

WITHOUT = plain_config(
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
)
LOADING, AT_WORK = Crash(-signal.SIGSEGV, False), Crash(-signal.SIGSEGV, True)
REPORTED = Crash(1, False, "unknown type")
OF_AN_ADAPTER = Crash(1, False, "cannot compute with it", AdapterFailed.code)
KILLED = Crash(-signal.SIGKILL, True)


@dataclass
class Machine:
    """A model with two files, and a clock."""

    now_s: float = 0.0
    remedy: Remedy | None = None  # of what is blamed before a file
    fits: bool = True
    quarantine: Quarantine = field(init=False)
    fallback: QuantizationFallback = field(init=False)

    def __post_init__(self) -> None:
        self.quarantine = Quarantine(lambda: self.now_s)
        first = self.way("m-Q8_0.gguf", "Q8_0")
        self.fallback = QuantizationFallback(first, self.quarantine, self.other, lambda: self.now_s)

    def way(self, name: str, quantization: str) -> Way:
        config = msgspec.structs.replace(WITHOUT, model_path=name)
        return Way(
            file=Path(name),
            quantization=quantization,
            config=config,
            on_crash=lambda _crash: self.remedy,
        )

    def other(self) -> Way:
        if not self.fits:
            raise NothingFits("too large")
        return self.way("m-Q4_0.gguf", "Q4_0")

    def after(self, *crashes: Crash, every_s: float = 1.0) -> list[str | None]:
        """The files that are gone on with; None: the same."""
        remedies = []
        for crash in crashes:
            remedies.append(self.fallback(crash))
            self.now_s += every_s
        return [
            None if remedy is None or remedy.config is None else remedy.config.model_path
            for remedy in remedies
        ]


@pytest.mark.parametrize("crash", [LOADING, REPORTED])
def test_a_file_that_cannot_be_loaded_gives_way_at_once(crash: Crash) -> None:
    machine = Machine()
    assert machine.after(crash) == ["m-Q4_0.gguf"]
    assert machine.quarantine.has(Path("m-Q8_0.gguf"))


def test_an_adapter_that_cannot_be_used_is_no_fault_of_its_models_file() -> None:
    machine = Machine()
    assert machine.after(OF_AN_ADAPTER) == [None]
    assert not machine.quarantine.has(Path("m-Q8_0.gguf"))


def test_one_that_kills_three_workers_within_ten_minutes_gives_way() -> None:
    machine = Machine()
    assert machine.after(AT_WORK, AT_WORK, AT_WORK, every_s=299) == [None, None, "m-Q4_0.gguf"]
    assert machine.after(*[AT_WORK] * 5, every_s=301) == [None] * 5
    machine.now_s += QUARANTINED_FOR_S
    assert not machine.quarantine.has(Path("m-Q8_0.gguf"))


def test_it_says_what_is_given_up_and_why(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    machine.after(AT_WORK, AT_WORK)
    remedy = machine.fallback(AT_WORK)
    assert remedy is not None
    often = "3 times in ten minutes"
    assert remedy.reason == f"Q8_0 is given up for a while, {often}, going on with Q4_0"
    assert caplog.messages == [
        "m-Q8_0.gguf is not served for 60 minutes: its worker was killed by SIGSEGV, " + often
    ]


def test_a_worker_that_somebody_ended_blames_no_file() -> None:
    assert Machine().after(*[KILLED] * 5, Crash(-signal.SIGKILL, False)) == [None] * 6


def test_what_else_may_be_to_blame_goes_first_and_clears_the_file() -> None:
    machine = Machine(remedy=Remedy("without kernels", WITHOUT))
    assert machine.after(*[AT_WORK] * 3) == ["m.gguf"] * 3
    machine.remedy = None
    assert machine.after(*[AT_WORK] * 3) == [None, None, "m-Q4_0.gguf"]


def test_where_nothing_else_can_be_served_it_goes_on_as_before() -> None:
    machine = Machine(fits=False)
    assert machine.after(LOADING, *[AT_WORK] * 4) == [None] * 5


def test_quarantined_files_are_planned_with_only_where_no_other_is_left(tmp_path: Path) -> None:
    headers = [
        read_header(write_sample(tmp_path / name, Sample())) for name in ("a.gguf", "b.gguf")
    ]
    model = PreparedModel("m", tuple(headers))
    quarantine = Quarantine()
    quarantine.put(tmp_path / "a.gguf", "a test")
    assert [h.path.name for h in quarantine.without(model).headers] == ["b.gguf"]
    quarantine.put(tmp_path / "b.gguf", "a test")
    assert quarantine.without(model) == model
