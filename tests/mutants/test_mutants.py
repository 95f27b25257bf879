"""A minute of model files with faults; `python -m tests.mutants 5000` is the whole."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from tests.mutants.cases import Findings, case_of, run_cases
from tests.mutants.gguf_parts import read_parts
from tests.mutants.mutations import MUTATIONS
from tests.mutants.sources import write_sources
from tests.mutants.trial import Outcome, machine_of, nursery

NUM_CASES = 250
SEED = 24


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Few of those that the whole has."""
    folder = tmp_path_factory.mktemp("sources")
    golden = ("llama2", "gemma3", "qwen2_moe", "phi3", "bert")
    return write_sources(folder, embedded_types=("Q8_0", "Q4_K_M"), golden_names=golden)


def test_a_sound_file_is_put_together_as_it_was(sources: list[Path]) -> None:
    for path in sources:
        assert read_parts(path).written() == path.read_bytes(), path.name


def test_a_case_is_the_same_at_every_run(sources: list[Path]) -> None:
    cases = [case_of(sources, 7, number) for number in range(60)]
    assert cases == [case_of(sources, 7, number) for number in range(60)]
    assert len({case.data for case in cases}) == 60


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_kind_of_fault_changes_a_file(name: str, sources: list[Path]) -> None:
    sound = next(path for path in sources if path.name == "gemma3-Q8_0.gguf")
    changed = 0
    for seed in range(20):
        parts = read_parts(sound)
        MUTATIONS[name](parts, random.Random(seed))
        changed += parts.written() != sound.read_bytes()
    assert changed >= 10


@pytest.mark.skipif(sys.platform != "linux", reason="the nursery needs pidfds")
async def test_no_file_takes_the_parent_down(sources: list[Path], tmp_path: Path) -> None:
    findings = Findings()
    async with nursery() as children:
        cases = (case_of(sources, SEED, number) for number in range(NUM_CASES))
        await run_cases(cases, children, machine_of(children), tmp_path, findings)
    harmful = [(case.number, case.source, case.what, verdict) for case, verdict in findings.harmful]
    assert harmful == []
    assert findings.outcomes.total() == NUM_CASES
    served = findings.outcomes[Outcome.SERVED] + findings.outcomes[Outcome.REQUESTS_FAILED]
    for count in (
        served,
        findings.outcomes[Outcome.REFUSED],
        findings.outcomes[Outcome.NOT_LOADED],
    ):
        assert count > NUM_CASES // 20
