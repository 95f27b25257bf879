"""Types and data of every tensor equal, byte for byte, what `llama_model_quantize`
makes of the unquantized file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from convert.importance.imatrix_file import Entry, ImportanceMatrix, write_imatrix
from convert.outputs import Importance
from convert.pipeline import Job, convert
from tests.convert import llama_tools
from tests.convert.checkpoints import (
    EMBEDDED,
    GOLDEN_NAMES,
    SHARED,
    Shape,
    golden_checkpoint,
    write_checkpoint,
)
from tests.convert.heads.saved import embedding_model, reranker

SHARED_MODELS = SHARED / "models"
FIRST_TYPES = ("Q8_0", "Q4_K_M", "Q2_K")
ALL_TYPES = (*FIRST_TYPES, "F16", "Q4_0", "Q3_K_M", "Q5_K_M", "Q6_K", "IQ4_XS")


def contents(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        tensor.name: (tensor.tensor_type.name, tuple(map(int, tensor.shape)), tensor.data.tobytes())
        for tensor in GGUFReader(path).tensors
    }


def assert_equals_two_steps(
    source: Path,
    work: Path,
    own_type: str,
    types: tuple[str, ...],
    importance: Importance | None = None,
) -> None:
    """One pass of ours against llama.cpp's way through an intermediate file in the
    checkpoint's own type.
    """
    written = convert(
        Job(source=source, directory=work, name="ours", types=(own_type, *types), num_threads=2),
        importance=importance,
    )
    theirs = {name: work / f"theirs-{name}.gguf" for name in types}
    imatrix = None
    if importance is not None:
        imatrix = work / "any.imatrix"
        write_imatrix(imatrix, importance.matrix)
    llama_tools.quantize(written[0].path, theirs, imatrix)
    for ours in written[1:]:
        expected, actual = contents(theirs[ours.type]), contents(ours.path)
        assert {n: t[:2] for n, t in actual.items()} == {n: t[:2] for n, t in expected.items()}, (
            ours.type
        )
        differing = [name for name in expected if actual[name] != expected[name]]
        assert not differing, f"{ours.type}: {differing}"
        assert GGUFReader(ours.path).fields["general.file_type"].contents() == (
            GGUFReader(theirs[ours.type]).fields["general.file_type"].contents()
        )


def test_embedded_checkpoint(tmp_path: Path) -> None:
    assert_equals_two_steps(EMBEDDED / "novels-6m", tmp_path, "BF16", FIRST_TYPES)


@pytest.mark.parametrize("make", [embedding_model, reranker])
def test_decoders_that_embed_or_rank(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert_equals_two_steps(make(tmp_path / "source"), tmp_path, "BF16", FIRST_TYPES)


def test_stories_with_rows_that_fill_no_block(tmp_path: Path) -> None:
    if not SHARED_MODELS.is_dir():
        pytest.skip("the shared checkpoints are not beside the repository")
    assert_equals_two_steps(SHARED_MODELS / "stories260K", tmp_path, "F32", ALL_TYPES)


@pytest.mark.parametrize(
    ("shape", "own_type"),
    [
        pytest.param(
            Shape(
                hidden=256, feed_forward=512, num_layers=2, num_heads=8, num_kv_heads=2, tied=False
            ),
            "BF16",
            id="untied output, four query heads per value head",
        ),
        pytest.param(
            Shape(
                hidden=256,
                feed_forward=256,
                num_layers=2,
                num_heads=4,
                stored_type="F16",
                attention_bias=True,
            ),
            "F16",
            id="tied output, attention biases, stored as F16",
        ),
        pytest.param(
            Shape(
                hidden=96, feed_forward=160, num_layers=17, num_heads=3, num_kv_heads=1, tied=False
            ),
            "BF16",
            id="17 layers, rows of three and five blocks of 32",
        ),
        pytest.param(
            Shape(
                hidden=64,
                feed_forward=36,
                num_layers=80,
                num_heads=8,
                num_kv_heads=4,
                stored_type="F32",
            ),
            "F32",
            id="the 70B rule: 80 layers and grouped heads; rows of no whole block",
        ),
        pytest.param(
            Shape(
                hidden=32,
                feed_forward=32,
                num_layers=80,
                tied=False,
                architecture="Qwen2ForCausalLM",
            ),
            "BF16",
            id="the 70B rule for qwen2: 80 layers",
        ),
        pytest.param(
            Shape(
                hidden=256,
                feed_forward=256,
                num_heads=8,
                tied=False,
                architecture="MixtralForCausalLM",
                num_experts=8,
            ),
            "BF16",
            id="eight experts",
        ),
        pytest.param(
            Shape(
                hidden=256,
                feed_forward=96,
                num_layers=2,
                num_heads=4,
                stored_type="F16",
                architecture="MixtralForCausalLM",
                num_experts=4,
            ),
            "F16",
            id="four experts with rows of three blocks of 32, tied output",
        ),
        pytest.param(
            Shape(
                hidden=256,
                feed_forward=256,
                num_layers=2,
                num_heads=4,
                architecture="Phi3ForCausalLM",
            ),
            "BF16",
            id="fused projections",
        ),
    ],
)
def test_random_checkpoints(tmp_path: Path, shape: Shape, own_type: str) -> None:
    assert_equals_two_steps(
        write_checkpoint(tmp_path / "source", shape), tmp_path, own_type, ALL_TYPES
    )


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_every_family(tmp_path: Path, name: str) -> None:
    source = golden_checkpoint(name, tmp_path / "source")
    own_type = "F16" if name == "llama2" else "BF16"
    assert_equals_two_steps(source, tmp_path, own_type, ALL_TYPES)


def random_importance(model: Path) -> Importance:
    """Weights over five orders of magnitude for every matrix of every layer; each third
    expert was never asked.
    """
    rng = np.random.default_rng(7)
    entries = {}
    for tensor in GGUFReader(model).tensors:
        row_items, _rows, *experts = map(int, tensor.shape) if len(tensor.shape) > 1 else (0, 0)
        if tensor.name.startswith("blk.") and row_items:
            sums = (10 ** rng.uniform(-3, 2, (max(experts, default=1), row_items))).astype(
                np.float32
            )
            entries[tensor.name] = Entry(sums, np.arange(1, len(sums) + 1) % 3)
    return Importance(
        ImportanceMatrix(entries, ("some text",), chunk_count=2, chunk_size=512), "any.imatrix"
    )


@pytest.mark.parametrize(
    ("shape", "own_type"),
    [
        pytest.param(
            Shape(
                hidden=256, feed_forward=512, num_layers=9, num_heads=8, num_kv_heads=2, tied=False
            ),
            "BF16",
            id="nine layers: other types for the first eighth",
        ),
        pytest.param(
            Shape(hidden=96, feed_forward=160, num_heads=3, num_kv_heads=1),
            "BF16",
            id="rows of no whole block",
        ),
        pytest.param(
            Shape(
                hidden=256,
                feed_forward=256,
                num_heads=8,
                architecture="MixtralForCausalLM",
                num_experts=5,
            ),
            "BF16",
            id="five experts, blocks of rows of two of them",
        ),
    ],
)
def test_with_an_importance_matrix(tmp_path: Path, shape: Shape, own_type: str) -> None:
    source = write_checkpoint(tmp_path / "source", shape)
    plain = convert(
        Job(source=source, directory=tmp_path, name="plain", types=("F32",), num_threads=2)
    )[0].path
    assert_equals_two_steps(source, tmp_path, own_type, ALL_TYPES, random_importance(plain))


def test_a_vector_that_is_multiplied_with_is_not_weighed(tmp_path: Path) -> None:
    """The gate of Qwen2's shared expert:
    a matrix's file has an entry for it, and it stays F32.
    """
    source = golden_checkpoint("qwen2_moe", tmp_path / "source")
    plain = convert(
        Job(source=source, directory=tmp_path, name="plain", types=("F32",), num_threads=2)
    )[0].path
    importance = random_importance(plain)
    name = "blk.0.ffn_gate_inp_shexp.weight"
    width = importance.matrix.entries["blk.0.attn_q.weight"].sums.shape[-1]
    entries = {
        **importance.matrix.entries,
        name: Entry(np.ones((1, width), np.float32), np.ones(1, np.int64)),
    }
    matrix = ImportanceMatrix(entries, ("some text",), chunk_count=2, chunk_size=512)
    assert_equals_two_steps(
        source, tmp_path, "BF16", ("Q4_0", "Q2_K"), Importance(matrix, "any.imatrix")
    )


def test_shards_and_threads_change_nothing(tmp_path: Path) -> None:
    shape = Shape(num_layers=3, num_kv_heads=1)
    whole = write_checkpoint(tmp_path / "whole", shape)
    sharded = write_checkpoint(tmp_path / "sharded", shape, num_shards=3)
    one = convert(
        Job(
            source=whole, directory=tmp_path / "one", name="model", types=FIRST_TYPES, num_threads=1
        )
    )
    many = convert(
        Job(
            source=sharded,
            directory=tmp_path / "many",
            name="model",
            types=FIRST_TYPES,
            num_threads=3,
        )
    )
    assert [file.path.read_bytes() for file in one] == [file.path.read_bytes() for file in many]
