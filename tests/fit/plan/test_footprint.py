"""The arithmetic of a footprint, and that llama.cpp itself says the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gguf
import msgspec
import pytest

from appliance.errors import BadModelFile
from appliance.fit.plan.footprint import ServeSize, footprint, largest_body_bytes, shared_bytes
from appliance.fit.plan.kv_cache import allows_kv_type, kv_cell_bytes
from appliance.fit.plan.shape import read_shape
from appliance.fit.plan.weights import repacked_types
from appliance.llama.checks import DryLoads, ReservedBytes, find_kernels
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.kernel_use import NO_KERNELS, KernelUse
from appliance.store.gguf_header import read_header
from appliance.store.synthetic import RandomShape, write_random_model
from tests.conftest import Embedded
from tests.store.samples import Sample, write_sample

SIZE = ServeSize(
    sizes=ContextSizes(
        kv_cells=1000,
        slots=4,
        max_rows=512,
        kv_type="f16",
        threads=2,
        flash_attention=False,
        ubatch_rows=128,
        batch_threads=2,
    )
)
SMALL_MODEL = RandomShape(
    num_layers=4, embd=512, ff=1536, heads=8, kv_heads=2, vocab=4096, ctx=8192
)

# Loads a model as the worker does and reports what llama.cpp reserved (its log) and
# what became resident, in bytes.
MEASURE = """
import json, re, sys
from pathlib import Path
import llama_cpp
from appliance.engine.batch import Batch
from appliance.llama import library
from appliance.llama.context import Context, ContextConfig
from appliance.llama.model import Model
from appliance.protocol.context_sizes import ContextSizes

def anonymous_bytes():
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"Anonymous: +([0-9]+) kB", rollup)[1]) * 1024

cells, slots, rows, threads, flash_attention, ubatch_rows = map(int, sys.argv[3:9])
library.start()
log = []
callback = llama_cpp.llama_log_callback(lambda level, text, data: log.append(text.decode()))
llama_cpp.llama_log_set(callback, None)
before = anonymous_bytes()
model = Model(Path(sys.argv[1]), use_extra_bufts=False)
sizes = ContextSizes(
    kv_cells=cells, slots=slots, max_rows=rows, kv_type=sys.argv[2], threads=threads,
    batch_threads=threads, flash_attention=bool(flash_attention), ubatch_rows=ubatch_rows,
)
config = ContextConfig(sizes=sizes)
context = Context(model, config)
for start in range(0, cells, rows):
    batch = Batch()
    for at in range(rows):
        batch.add(at % model.num_vocab, start + at, 0, wants_logits=at == rows - 1)
    context.decode(batch)
text = "".join(log)
mib = lambda pattern: float(re.search(pattern, text)[1]) * (1 << 20)
print(json.dumps({
    "kv": mib(r"llama_kv_cache: size = +([0-9.]+) MiB"),
    "graph": mib(r"CPU compute buffer size = +([0-9.]+) MiB"),
    "anonymous": anonymous_bytes() - before,
}))
"""


@pytest.fixture(scope="module")
def sample_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("fit") / "sample.gguf", Sample())


def test_kv_cells_by_type(sample_file: Path) -> None:
    shape = read_shape(read_header(sample_file))

    # layers, K and V, KV heads x head size, bytes
    assert kv_cell_bytes(shape, "f16") == 2 * 2 * (2 * 64) * 2
    assert kv_cell_bytes(shape, "q8_0") == 2 * 2 * (2 * 64) * 34 // 32


def test_parts_of_a_footprint(sample_file: Path) -> None:
    header = read_header(sample_file)
    shape = read_shape(header)

    need = footprint(header, shape, SIZE)

    assert need.weights_bytes == sum(tensor.num_bytes for tensor in header.tensors)
    assert need.kv_bytes == 1024 * kv_cell_bytes(shape, "f16")  # cells in whole 256
    # four slots and the scratch sequence; two samplers
    assert need.output_bytes == 300 * ((4 + 1) * 4 + 2 * 12)
    assert need.repacked_bytes == 0
    parts = [size for name, size in vars(need).items() if name.endswith("_bytes")]
    assert need.total_bytes == sum(parts)
    assert need.total_bytes == need.anonymous_bytes + need.mapped_bytes
    assert (
        need.total_bytes
        == need.own_bytes + need.parent_bytes + need.code_bytes + need.parsing_bytes
    )
    assert need.own_bytes == need.worker_anonymous_bytes + need.weights_bytes
    assert need.claimed_bytes == need.own_bytes + need.shared_bytes


def test_turning_quantized_keys_takes_a_layers_cache_twice_as_f32(sample_file: Path) -> None:
    shape = read_shape(header := read_header(sample_file))
    turned = 2 * 4 * 1024 * max(shape.num_kv_heads) * shape.key_length
    for kv_type, num_bytes in (("q8_0", turned), ("f16", 0)):
        size = SIZE.resized(kv_type=kv_type, flash_attention=True)
        moving = footprint(header, shape, replace(size, moves_cells=True))
        assert moving.total_bytes - footprint(header, shape, size).total_bytes == num_bytes


def test_headroom_is_there_for_idle_code_and_for_parsing_what_it_can(sample_file: Path) -> None:
    header = read_header(sample_file)
    without, small, large = (
        footprint(header, read_shape(header), replace(SIZE, max_body_bytes=mib << 20))
        for mib in (0, 1, 2)
    )
    idle_code_bytes = 29 << 20
    assert without.total_bytes - without.claimed_bytes == idle_code_bytes
    assert small.claimed_bytes == without.claimed_bytes, (
        "28 MiB to parse it, less than the least headroom"
    )
    assert large.claimed_bytes - without.claimed_bytes == (2 * 28 - 32) << 20
    assert [need.shared_bytes for need in (small, large)] == [
        shared_bytes(mib << 20) for mib in (1, 2)
    ]


def test_what_is_read_instead_of_mapped_is_there_once(sample_file: Path) -> None:
    header = read_header(sample_file)
    shape = read_shape(header)
    repacking = replace(SIZE, repacked_types=frozenset({"Q8_0"}))
    mapped, read = (
        footprint(header, shape, replace(repacking, use_mmap=use_mmap))
        for use_mmap in (True, False)
    )

    assert mapped.repacked_bytes == read.repacked_bytes > 0
    assert mapped.total_bytes - read.total_bytes == mapped.repacked_bytes
    assert (mapped.mapped_bytes - mapped.weights_bytes, mapped.code_bytes) == (
        read.mapped_bytes,
        read.code_bytes,
    )


def test_scores_are_kept_for_fewer_rows_the_more_cells_there_are() -> None:
    def row_cells(kv_cells: int, slots: int = 4) -> int | None:
        return SIZE.resized(kv_cells=kv_cells, slots=slots).max_row_cells

    assert [row_cells(cells) for cells in (512, 1024, 2048, 8192)] == [
        128 * 512,
        128 * 1024,
        64 * 2048,
        32 * 8192,
    ]
    assert row_cells(8192, slots=63) == 64 * 8192  # every running answer has its row
    assert SIZE.resized(flash_attention=True).max_row_cells is None
    assert replace(SIZE.resized(kv_cells=8192), whole_steps=True).max_row_cells == 128 * 8192


def test_what_llama_cpp_says_counts_where_it_is_less(sample_file: Path) -> None:
    header = read_header(sample_file)
    need = footprint(header, read_shape(header), SIZE)

    asked = need.reserved_by_llama_cpp(
        kv_bytes=need.kv_bytes + 5, compute_bytes=need.compute_bytes - 7
    )

    assert (asked.total_bytes - need.total_bytes, asked.is_llama_cpps) == (5 - 7, True)
    assert (
        need.reserved_by_llama_cpp(need.kv_bytes, need.compute_bytes + 9).total_bytes
        == need.total_bytes
    )


def test_more_of_anything_never_takes_less(sample_file: Path) -> None:
    header = read_header(sample_file)
    shape = read_shape(header)
    base = SIZE.resized(kv_type="q8_0", flash_attention=True, ubatch_rows=512)
    total = footprint(header, shape, base).total_bytes

    for larger in (
        base.resized(kv_cells=2000),
        base.resized(slots=8),
        base.resized(ubatch_rows=1024),
        base.resized(threads=64),
        replace(base, repacked_types=frozenset({"Q8_0"})),
        replace(base, max_body_bytes=1),
    ):
        assert footprint(header, shape, larger).total_bytes > total
    assert footprint(header, shape, SIZE).kv_bytes > footprint(header, shape, base).kv_bytes


@pytest.mark.parametrize(
    ("ctx", "num_bytes"),
    [(64, 1 << 20), (16384, 1 << 20), (32768, 2 << 20), (131072, 8 << 20), (1 << 20, 16 << 20)],
)
def test_the_largest_body_goes_with_the_context(ctx: int, num_bytes: int) -> None:
    assert largest_body_bytes(ctx) == num_bytes


def test_repacking_follows_the_cpu(sample_file: Path) -> None:
    header = read_header(sample_file)
    matrices = sum(tensor.num_bytes for tensor in header.tensors if len(tensor.shape) == 2)

    def repacked(flags: set[str]) -> int:
        size = replace(SIZE, repacked_types=repacked_types(flags))
        return footprint(header, read_shape(header), size).repacked_bytes

    assert repacked({"avx2", "avx512f"}) == 0
    assert repacked({"avx2", "amx_int8"}) == matrices
    assert repacked({"asimddp"}) == matrices


def test_quantized_kv_needs_heads_of_whole_blocks(tmp_path: Path) -> None:
    shape = read_shape(read_header(write_sample(tmp_path / "s.gguf", Sample(head_size=8, heads=8))))

    assert allows_kv_type(shape, "f16")
    assert not allows_kv_type(shape, "q8_0")


@pytest.mark.parametrize(
    "key", ["llama.block_count", "llama.context_length", "llama.attention.head_count"]
)
def test_a_missing_dimension_is_named(sample_file: Path, tmp_path: Path, key: str) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(sample_file.read_bytes().replace(key.encode(), key[:-1].encode() + b"?"))

    with pytest.raises(BadModelFile, match=key):
        read_shape(read_header(broken))


def test_kv_heads_may_differ_by_layer(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_block_count(3)
    writer.add_context_length(512)
    writer.add_embedding_length(256)
    writer.add_head_count(4)
    writer.add_head_count_kv([4, 2, 0])
    writer.add_vocab_size(100)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    shape = read_shape(read_header(tmp_path / "m.gguf"))

    assert shape.num_kv_heads == (4, 2, 0)
    assert kv_cell_bytes(shape, "f16") == 6 * 2 * 64 * 2


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's smaps_rollup"
)
@pytest.mark.parametrize("kv_type", ["f16", "q8_0", "q5_1", "q4_0", "q8_0/q4_0"])
def test_llama_cpp_takes_what_was_predicted(embedded: Embedded, kv_type: str) -> None:
    file = embedded.files["Q8_0"]
    flash_attention = kv_type != "f16"
    size = ServeSize(
        sizes=ContextSizes(
            kv_cells=1024,
            slots=SIZE.sizes.slots,
            max_rows=256,
            kv_type=kv_type,
            threads=1,
            flash_attention=flash_attention,
            ubatch_rows=128,
            batch_threads=1,
        )
    )
    sizes = (
        size.sizes.kv_cells,
        size.sizes.slots,
        size.sizes.max_rows,
        size.sizes.threads,
        int(flash_attention),
        size.sizes.ubatch_rows,
    )
    arguments = [str(file), kv_type, *map(str, sizes)]

    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"},
    )
    measured = json.loads(done.stdout)
    header = read_header(file)
    need = footprint(header, read_shape(header), size)

    # the log has two decimals
    assert need.kv_bytes == pytest.approx(measured["kv"], abs=0.01 * (1 << 20))
    assert need.compute_bytes == pytest.approx(measured["graph"], rel=0.03)
    not_loaded = need.worker_bytes + need.grammar_bytes + need.template_bytes
    predicted = need.worker_anonymous_bytes - not_loaded + 7 * (1 << 18)  # small buffers
    assert predicted == pytest.approx(measured["anonymous"], rel=0.06)


# Anonymous memory that steps through a whole cache add to what a context has.
GROWN = """
import re, sys
import msgspec
from pathlib import Path
from appliance.engine.batch import Batch
from appliance.llama.context import Context, ContextConfig
from appliance.llama.kernels.loading import load
from appliance.llama.model import Model
from appliance.protocol.context_sizes import ContextSizes

def anonymous_bytes():
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"Anonymous: +([0-9]+) kB", rollup)[1]) * 1024

sizes = msgspec.json.decode(sys.argv[2], type=ContextSizes)
if sys.argv[3:]:
    load(sys.argv[3])
model = Model(Path(sys.argv[1]), use_extra_bufts=False)
context = Context(model, ContextConfig(sizes=sizes))
before = anonymous_bytes()
rows = sizes.ubatch_rows
for start in range(0, sizes.kv_cells, rows):
    batch = Batch()
    for at in range(rows):
        batch.add(at % model.num_vocab, start + at, 0, wants_logits=at == rows - 1)
    context.decode(batch)
context.synchronize()
print(anonymous_bytes() - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's smaps_rollup"
)
@pytest.mark.parametrize("rows", [128, 512])
def test_our_kernels_take_the_room_that_was_predicted(tmp_path: Path, rows: int) -> None:
    library = find_kernels()
    if isinstance(library, str):
        pytest.skip(f"our own kernels {library}")
    path = tmp_path / "model.gguf"
    write_random_model(path, SMALL_MODEL, "Q4_K")
    sizes = replace(
        SIZE.sizes, kv_cells=4096, max_rows=rows, ubatch_rows=rows, flash_attention=True
    )
    header = read_header(path)
    size = replace(SIZE, sizes=sizes, own_kernels=True)
    need = footprint(header, read_shape(header), size)

    done = subprocess.run(
        [sys.executable, "-c", GROWN, str(path), msgspec.json.encode(sizes), str(library.path)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"},
    )

    # hardly more; and less by what steps do not touch of it
    unused = need.compute_bytes + need.scratch_bytes - int(done.stdout)
    assert -(1 << 19) <= unused <= 3 << 19


def test_two_back_ends_with_one_buffer_count_it_once(embedded: Embedded, tmp_path: Path) -> None:
    library = find_kernels()
    if isinstance(library, str):
        pytest.skip(f"our own kernels {library}")
    sizes = replace(SIZE.sizes, flash_attention=True)
    kernels = KernelUse(str(library.path), library.build, ())
    ways = (NO_KERNELS, kernels)

    plain, ours = (
        DryLoads(tmp_path / "dry.json", kernels=way).reserved(embedded.files["Q8_0"], sizes)
        for way in ways
    )

    assert isinstance(plain, ReservedBytes)
    assert isinstance(ours, ReservedBytes)
    assert ours.compute_bytes == pytest.approx(plain.compute_bytes, rel=0.2)
