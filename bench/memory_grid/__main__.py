"""Predicts and measures the memory of every server of the grid, and sums up how far
apart the two are.

Run: python -m bench.memory_grid DIR [SHAPE...]

DIR keeps the models (2 GB for all shapes), what was measured so far (results.jsonl) and
the picture; an interrupted run continues where it stopped. Without shapes, all of them
are measured. Memory does not depend on what else runs, as long as there is enough of
it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.memory_grid.cells import SLOTS, Cell, grid
from bench.memory_grid.report import Point, draw, table
from bench.memory_grid.serving import Measured, measure


def main(argv: list[str]) -> None:
    if not argv:
        sys.exit(__doc__)
    folder = Path(argv[0])
    results = folder / "results.jsonl"
    known = (
        [Point(**json.loads(line)) for line in results.read_text().splitlines()]
        if results.exists()
        else []
    )
    done = {point.name for point in known}
    for cell in grid(argv[1:]):
        if _name(cell) not in done:
            point = measure_cell(cell, folder)
            known.append(point)
            with results.open("a") as file:
                file.write(json.dumps(dataclasses.asdict(point)) + "\n")
            print(point.line(), flush=True)
    print(table(known))
    draw(known, folder / "memory-grid")


def _name(cell: Cell) -> str:
    return f"{cell.shape.name}, {cell.type_name}, {cell.ctx}, {cell.kv_type}"


def measure_cell(cell: Cell, folder: Path) -> Point:
    """Predicts and measures one server; `folder` keeps its model, and what servers
    remember of this machine.
    """
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    model = cell.model(folder)
    sizes = ["--ctx", str(cell.ctx), "--kv-cells", str(cell.kv_cells), "--kv-type", cell.kv_type]
    sizes += ["--slots", str(SLOTS)]
    need = _predict(model, sizes, home)
    # As on a first start, which also measures this machine's step times.
    shutil.rmtree(home / ".local/state/appliance/step-times", ignore_errors=True)
    measured = measure(
        model, sizes, slots=SLOTS, ctx=cell.ctx, num_vocab=cell.shape.shape.vocab, home=home
    )
    return _as_point(cell, need, measured)


def _as_point(cell: Cell, need: dict[str, int], measured: Measured) -> Point:
    """Without the memory for parsing the largest body that is allowed, which no request
    of the grid has.
    """
    predicted = need["total_bytes"] - need["parsing_bytes"]
    predicted_mapped = need["weights_bytes"] + need["code_bytes"]
    return Point(
        name=_name(cell),
        shape=cell.shape.name,
        held_out=cell.shape.held_out,
        kv_type=cell.kv_type,
        predicted_anonymous=predicted - predicted_mapped,
        predicted_mapped=predicted_mapped,
        measured_anonymous=measured.anonymous,
        measured_mapped=measured.model_mapped + measured.code_mapped,
    )


def _predict(model: Path, sizes: list[str], home: Path) -> dict[str, int]:
    """What `appliance fit` says of the same server."""
    command = [sys.executable, "-m", "appliance", "fit", str(model), "--json", *sizes]
    env = {**os.environ, "HOME": str(home), "XDG_DATA_HOME": "", "XDG_STATE_HOME": ""}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    need: dict[str, int] = json.loads(done.stdout)["need"]
    return need


if __name__ == "__main__":
    main(sys.argv[1:])
