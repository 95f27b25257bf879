"""Tables that a row is looked up in: counted as far as they are used, and a model fits
that would not if they were counted whole.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from appliance.errors import BadModelFile
from appliance.fit.plan.budget import Budget
from appliance.fit.plan.footprint import ServeSize, footprint
from appliance.fit.plan.planner import make_plan
from appliance.fit.plan.shape import read_shape
from appliance.fit.plan.weights import ranges_of, touched_bytes
from appliance.fit.tuning.choices import Tuning
from appliance.protocol.context_sizes import ContextSizes
from appliance.store.ggml_types import TYPES_BY_NAME
from appliance.store.gguf_header import GgufHeader, Tensor, read_header
from tests.fit.plan.plan_inputs import DEVICE, OVERRIDES

ROWS, WIDTH, BLOCKS = 40_000, 512, 4
TABLE_BYTES = ROWS * WIDTH * BLOCKS * 2
# 4,096 bytes a row, which hardly ever begins with a page
TOUCHED_BYTES = 16384 * 2 * 4096

SIZE = ServeSize(
    sizes=ContextSizes(
        kv_cells=1000,
        slots=4,
        max_rows=512,
        kv_type="f16",
        threads=2,
        ubatch_rows=128,
        batch_threads=2,
    )
)


def write(path: Path, *, shared: int = 2, architecture: str = "gemma4") -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(BLOCKS)
    writer.add_context_length(2048)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(128)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_key_length(32)
    writer.add_value_length(32)
    writer.add_uint32(f"{architecture}.attention.shared_kv_layers", shared)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token{index}" for index in range(ROWS)])
    for name, shape in {
        "token_embd.weight": (ROWS, 64),
        "per_layer_token_embd.weight": (ROWS, WIDTH * BLOCKS),
    }.items():
        writer.add_tensor(name, np.zeros(shape, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> GgufHeader:
    return read_header(write(tmp_path_factory.mktemp("tables") / "edge.gguf"))


def test_the_rows_that_are_used_count(header: GgufHeader) -> None:
    shape = read_shape(header)
    (table,) = (t for t in header.tensors if t.name.startswith("per_layer"))

    mapped = footprint(header, shape, SIZE)
    read = footprint(header, shape, replace(SIZE, use_mmap=False))
    with_gpus = footprint(header, shape, replace(SIZE, whole_tables=True))

    assert mapped.table_bytes == TOUCHED_BYTES
    assert mapped.weights_bytes == ROWS * 64 * 2
    assert (read.table_bytes, with_gpus.table_bytes) == (0, 0)
    assert read.weights_bytes == with_gpus.weights_bytes == ROWS * 64 * 2 + TABLE_BYTES
    assert with_gpus.total_bytes - mapped.total_bytes == TABLE_BYTES - TOUCHED_BYTES
    assert mapped.worker_anonymous_bytes == with_gpus.worker_anonymous_bytes
    assert ranges_of(header)[0].first == table.offset
    assert ranges_of(header)[0].num_bytes == TABLE_BYTES


@pytest.mark.parametrize(
    ("num_rows", "row_bytes", "kv_cells", "touched"),
    [
        (262_144, 8160, 4096, 16384 * 3 * 4096),  # Gemma 3n E2B at Q8_0
        (262_144, 8160, 32768, 32768 * 3 * 4096),  # longer prompts have more words
        (4096, 2048, 4096, 4096 * 2048),  # never more than there is
    ],
)
def test_touched_bytes(num_rows: int, row_bytes: int, kv_cells: int, touched: int) -> None:
    table = Tensor(
        name="per_layer_token_embd.weight",
        shape=(row_bytes, num_rows),
        ggml_type=TYPES_BY_NAME["Q8_0"],
        offset=0,
        num_bytes=num_rows * row_bytes,
    )
    assert touched_bytes(table, kv_cells) == touched


def test_an_edge_model_is_served_where_it_fits(header: GgufHeader) -> None:
    roomy = make_plan([header], OVERRIDES, DEVICE, Budget(1 << 40, 0, "a test"), Tuning())
    need_bytes = roomy.candidates[0].need.claimed_bytes if roomy.candidates[0].need else 0

    plan = make_plan([header], OVERRIDES, DEVICE, Budget(need_bytes, 0, "a test"), Tuning())

    assert plan.tables == ranges_of(header)
    assert plan.need.claimed_bytes <= need_bytes
    # 30 MB less than if all of it counted, which would have been refused here
    assert plan.need.table_bytes == TOUCHED_BYTES < TABLE_BYTES


def test_nothing_looked_up_is_repacked(header: GgufHeader) -> None:
    size = replace(SIZE, repacked_types=frozenset({"F16"}))

    # the token embeddings, which are the output too
    assert footprint(header, read_shape(header), size).repacked_bytes == ROWS * 64 * 2


def test_layers_that_share_what_others_keep_have_no_cells(header: GgufHeader) -> None:
    assert read_shape(header).num_kv_heads == (1, 1, 0, 0)
    assert read_shape(header).per_layer == WIDTH * BLOCKS


def test_layers_cannot_all_share(tmp_path: Path) -> None:
    header = read_header(write(tmp_path / "none.gguf", shared=BLOCKS))
    with pytest.raises(BadModelFile, match="all of its layers share"):
        read_shape(header)
