"""Per-layer tables of real models: read as they are used, and what is answered stays."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.llama.loading.tables import give_back
from appliance.protocol.file_range import FileRange
from bench.edge_models import TINY, EdgeShape, write_altup, write_per_layer
from tests.conftest import Embedded

# 4,096 rows of 8 KiB (Gemma 3n's width is llama.cpp's)
SHAPES = {
    write_per_layer: replace(TINY, per_layer=1024),
    write_altup: replace(TINY, blocks=16),
}
NUM_PAGES = 4096 * 2
HUGE_PAGE = 512  # pages, which are dropped together or not at all


def run(path: Path, how: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.llama.lazy_tables", str(path), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("write", SHAPES, ids=["marked by llama.cpp", "read whole by it"])
def test_a_table_is_read_as_it_is_used(
    write: Callable[[Path, Path, EdgeShape], Path], embedded: Embedded, tmp_path: Path
) -> None:
    path = write(embedded.files["Q8_0"], tmp_path / "model.gguf", SHAPES[write])

    whole, lazy = run(path, "whole"), run(path, "lazy")

    assert lazy["tokens"] == whole["tokens"]
    assert whole["num_pages"] == NUM_PAGES
    assert whole["loaded_pages"] >= NUM_PAGES - 1
    # what shares one with its neighbours in the file may be there
    assert lazy["loaded_pages"] <= 2 * HUGE_PAGE
    # a row lies in two pages or in three
    assert 0 < lazy["used_pages"] - lazy["loaded_pages"] <= 3 * len(lazy["tokens"])


def test_what_is_not_mapped_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(1 << 16))

    assert give_back(path, [FileRange(0, 1 << 16)]) == 0
