"""What tuning found, from one run to the next: as it was, or not at all."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.record import (
    EmptyCache,
    TuningConditions,
    TuningKey,
    TuningRecord,
    TuningRecords,
)
from appliance.fit.tuning.speeds import Quartiles, Speeds
from appliance.fit.tuning.tuner import Outcome, TuningResult, Verdict

KEY = TuningKey(
    model_bytes=1000,
    model_modified_ns=5,
    kv_type="f16",
    machine="machine",
    usable_cores=2,
    cpu_quota=None,
    cpu_paths=("plain", "extra_bufts"),
)
ONE, TWO = Speeds(1.5, 20.25, 60.0, 4), Speeds(2.5, 19.0, 40.0, 4)
BEST = Tuning(use_extra_bufts=True, threads=1)
RECORD = TuningRecord(
    key=KEY,
    conditions=TuningConditions(
        date="2026-11-23",
        seconds=60.0,
        depth=2048,
        streams=4,
        is_short=False,
        prompt_rows=256,
        others_share=0.01,
    ),
    tuning=BEST,
    found=TuningResult(
        default=Tuning(),
        best=BEST,
        default_rounds=(ONE, TWO),
        best_rounds=(TWO,),
        verdicts=(
            Verdict(
                field="use_extra_bufts",
                value=True,
                outcome=Outcome.TAKEN,
                gain=Quartiles(0.1, 0.05, 0.15),
                num_rounds=3,
                reason="a clear gain",
            ),
            Verdict(
                field="use_mmap",
                value=False,
                outcome=Outcome.FAILED,
                gain=None,
                num_rounds=0,
                reason="died of SIGILL",
            ),
        ),
    ),
    empty=EmptyCache((ONE,), (TWO,)),
)
MODEL = Path("/models/a/novels-Q8_0.gguf")


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    records = TuningRecords(tmp_path)
    assert records.recall(MODEL, KEY) is None

    records.remember(MODEL, RECORD)

    assert records.recall(MODEL, KEY) == RECORD
    assert [path.suffix for path in (tmp_path / "tuning").iterdir()] == [".json"]


def test_without_a_result_the_reason_is_kept(tmp_path: Path) -> None:
    nothing = TuningRecord(
        key=KEY, conditions=RECORD.conditions, tuning=Tuning(), reason="took more than 15 s"
    )
    TuningRecords(tmp_path).remember(MODEL, nothing)
    assert TuningRecords(tmp_path).recall(MODEL, KEY) == nothing


@pytest.mark.parametrize(
    "change",
    [
        {"model_bytes": 1001},
        {"model_modified_ns": 6},
        {"machine": "another CPU, or another build"},
        {"usable_cores": 1},
        {"cpu_quota": 1.5},
        {"cpu_paths": ("plain",)},
    ],
)
def test_with_anything_else_it_is_stale(change: dict[str, Any], tmp_path: Path) -> None:
    records = TuningRecords(tmp_path)
    records.remember(MODEL, RECORD)
    assert records.recall(MODEL, replace(KEY, **change)) is None


def test_other_files_and_kv_types_have_records_of_their_own(tmp_path: Path) -> None:
    records = TuningRecords(tmp_path)
    quantized = replace(RECORD, key=replace(KEY, kv_type="q8_0/q4_0"))
    namesake = Path("/models/b/novels-Q8_0.gguf")
    for model, record in (
        (MODEL, RECORD),
        (MODEL, quantized),
        (namesake, replace(RECORD, reason="of the namesake")),
    ):
        records.remember(model, record)

    assert records.recall(MODEL, KEY) == RECORD
    assert records.recall(MODEL, quantized.key) == quantized
    assert records.recall(namesake, KEY) == replace(RECORD, reason="of the namesake")
    assert len(list((tmp_path / "tuning").iterdir())) == 3


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"version": 2}', b'{"version": 1, "record": 5}', b"\xff"]
)
def test_a_damaged_file_is_reported_and_counts_as_none(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = TuningRecords(tmp_path)
    records.remember(MODEL, RECORD)
    records.path(MODEL, "f16").write_bytes(content)

    with caplog.at_level(logging.WARNING):
        assert records.recall(MODEL, KEY) is None

    assert "which the next `appliance tune` will rewrite" in caplog.text
    records.remember(MODEL, RECORD)
    assert records.recall(MODEL, KEY) == RECORD


def test_a_directory_that_cannot_be_written_to_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tuning").write_text("not a directory")
    with caplog.at_level(logging.WARNING):
        TuningRecords(tmp_path).remember(MODEL, RECORD)
    assert "cannot save the result of tuning" in caplog.text
