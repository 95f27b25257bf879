"""What layers with windows or states keep, as llama.cpp itself reserves it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from appliance.errors import BadModelFile
from appliance.fit.plan.footprint import ServeSize, footprint
from appliance.fit.plan.shape import read_shape
from appliance.llama.checks import DryLoads, ReservedBytes
from appliance.protocol.context_sizes import ContextSizes
from appliance.store.gguf_header import read_header
from bench.memory_kinds import KINDS, TINY, KindShape
from tests.conftest import Embedded

SIZES = ContextSizes(
    kv_cells=4096,
    slots=4,
    max_rows=256,
    kv_type="q8_0",
    threads=2,
    flash_attention=True,
    ubatch_rows=128,
    batch_threads=2,
)
SHAPE = replace(TINY, width=256, heads=8, ff=512, blocks=8, state=64, kv_heads=2, window=200)
_ROUNDING = 2 * 0.005 * (1 << 20)  # llama.cpp logs each of two sizes in hundredths of a MiB


def write(kind: str, embedded: Embedded, folder: Path, shape: KindShape = SHAPE) -> Path:
    return KINDS[kind](embedded.files["Q8_0"], folder / f"{kind}.gguf", shape)


@pytest.mark.parametrize("kind", KINDS)
def test_caches_and_states_are_what_llama_cpp_reserves(
    kind: str, embedded: Embedded, tmp_path: Path
) -> None:
    header = read_header(write(kind, embedded, tmp_path))
    shape = read_shape(header)
    for sizes in (SIZES, replace(SIZES, slots=1, kv_cells=512, kv_type="f16")):
        need = footprint(header, shape, ServeSize(sizes=sizes))
        reserved = DryLoads(tmp_path / "dry.json").reserved(header.path, sizes)
        assert isinstance(reserved, ReservedBytes)
        assert abs(need.kv_bytes - reserved.kv_bytes) <= _ROUNDING
        assert need.compute_bytes >= reserved.compute_bytes, "what is reserved counts, if less"


def test_a_window_saves_what_lies_behind_it(embedded: Embedded, tmp_path: Path) -> None:
    header = read_header(write("window", embedded, tmp_path))
    shape = read_shape(header)
    assert (shape.window, sum(shape.slides)) == (200, 7)
    whole = footprint(header, replace(shape, window=0, slides=()), ServeSize(sizes=SIZES))
    cells = 1280  # 200 for each of 4 slots and the scratch sequence, 128 rows: in whole 256
    need = footprint(header, shape, ServeSize(sizes=SIZES))
    assert need.kv_bytes == whole.kv_bytes * (cells * 7 + 4096) // (8 * 4096)


def test_a_model_with_neither_attention_nor_states_is_refused(
    embedded: Embedded, tmp_path: Path
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "oddity")
    for name, value in (("block_count", 1), ("embedding_length", 64), ("context_length", 64)):
        writer.add_uint32(f"oddity.{name}", value)
    writer.add_uint32("oddity.attention.head_count", 0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BadModelFile, match="without attention heads"):
        read_shape(read_header(tmp_path / "odd.gguf"))
