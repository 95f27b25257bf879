"""What `fit` predicts is what a real server takes: three servers of those that `python
-m bench.memory_grid` runs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.memory_grid.__main__ import measure_cell
from bench.memory_grid.cells import SHAPES, Cell

MOST_OFF = 0.05
SMALL = next(shape for shape in SHAPES if shape.name == "small")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grid")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's smaps")
@pytest.mark.parametrize(
    ("type_name", "ctx", "kv_type"),
    [("Q8_0", 512, "f16"), ("Q4_K", 1024, "q8_0"), ("Q2_K", 1024, "q4_0")],
)
def test_a_server_takes_what_was_predicted(
    folder: Path, type_name: str, ctx: int, kv_type: str
) -> None:
    point = measure_cell(Cell(SMALL, type_name, ctx, kv_type), folder)

    assert abs(point.error) <= MOST_OFF, point.line()
    assert point.predicted_mapped == pytest.approx(point.measured_mapped, rel=MOST_OFF)
