"""The importance matrix: against numpy, against llama.cpp's own tool, interrupted, and
refused where it is damaged.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from gguf import GGUFReader
from numpy.typing import NDArray

from convert.child import ChildDied, Refused
from convert.commands.dispatch import execute
from convert.commands.importance import build_parser, run
from convert.counted_progress import Counted, ThrottledCount, plain_line
from convert.errors import BadInput, MissingFile
from convert.gguf.file import write_gguf
from convert.gguf.header import string, string_array, u32
from convert.importance.imatrix_file import Entry, ImportanceMatrix, read_imatrix, write_imatrix
from convert.importance.matrix import (
    CALIBRATION_TEXT,
    ImportanceJob,
    compute_importance,
    unfinished_path,
)
from convert.importance.sums import ImportanceSums
from convert.pipeline import Job, convert
from tests.convert import llama_tools
from tests.convert.checkpoints import EMBEDDED, GOLDEN, Shape, golden_checkpoint, write_checkpoint

THEIRS = GOLDEN / "imatrix"
WEIGHTS_OF_A_LAYER = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}


@pytest.fixture(scope="module")
def novels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model in float32."""
    directory = tmp_path_factory.mktemp("novels")
    return convert(
        Job(
            source=EMBEDDED / "novels-6m",
            directory=directory,
            name="novels-6m",
            types=("F32",),
            num_threads=2,
        )
    )[0].path


def job_for(model: Path, out: Path, **changes: Any) -> ImportanceJob:
    """One thread: more would spin on a busy host."""
    job = ImportanceJob(
        model=model, text=CALIBRATION_TEXT, out=out, threads=1, chunk_tokens=128, max_chunks=3
    )
    return replace(job, **changes)


def converted(source: Path, directory: Path) -> Path:
    return convert(
        Job(source=source, directory=directory, name="model", types=("F32",), num_threads=1)
    )[0].path


# --- what is computed -----------------------------------------------------------------


def test_the_first_layer_is_given_what_numpy_computes(novels: Path, tmp_path: Path) -> None:
    """Its attention is given the normalized embeddings; 2 chunks of 200 tokens: blocks
    of 128 rows, and of 72.
    """
    text = THEIRS / "text.txt"
    matrix = compute_importance(
        job_for(novels, tmp_path / "i.gguf", text=text, chunk_tokens=200, max_chunks=2)
    )
    rows = normalized_embeddings(novels, text.read_text(), chunk_tokens=200, num_chunks=2)
    entry = matrix.entries["blk.0.attn_q.weight"]
    np.testing.assert_allclose(entry.sums[0], np.square(rows).sum(axis=0), rtol=1e-6)
    assert entry.counts.tolist() == [400]


def normalized_embeddings(
    model: Path, text: str, chunk_tokens: int, num_chunks: int
) -> NDArray[np.float64]:
    tokens = np.array(
        llama_tools.tokenize(model, [text], add_special=True)[0][: chunk_tokens * num_chunks]
    )
    if llama_tools.describe(model)["add_bos"]:
        tokens[::chunk_tokens] = llama_tools.describe(model)["bos"]
    reader = GGUFReader(model)
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    epsilon = reader.fields["llama.attention.layer_norm_rms_epsilon"].contents()
    rows = tensors["token_embd.weight"][tokens].astype(np.float64)
    scale = 1 / np.sqrt(np.square(rows).mean(axis=1, keepdims=True) + epsilon)
    given: NDArray[np.float64] = rows * scale * tensors["blk.0.attn_norm.weight"]
    return given


def test_every_weight_of_every_layer_sees_every_token(novels: Path, tmp_path: Path) -> None:
    """The last layer too, of which llama.cpp computes only rows that something is asked of."""
    matrix = compute_importance(job_for(novels, tmp_path / "i.gguf"))
    assert set(matrix.entries) == {
        f"blk.{i}.{name}.weight" for i in range(6) for name in WEIGHTS_OF_A_LAYER
    }
    assert {tuple(entry.counts) for entry in matrix.entries.values()} == {(3 * 128,)}
    assert (matrix.datasets, matrix.chunk_count, matrix.chunk_size) == (
        ("calibration.txt",),
        3,
        128,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["i.gguf"]
    assert_equal(read_imatrix(tmp_path / "i.gguf"), matrix)


@pytest.mark.parametrize(("family", "num_used"), [("mixtral", 2), ("qwen3_moe", 3)])
def test_experts_are_summed_separately(family: str, num_used: int, tmp_path: Path) -> None:
    """The router and all experts that it chooses are given the same: their sums add up
    to so many of the router's.
    """
    model = converted(golden_checkpoint(family, tmp_path / family), tmp_path)
    matrix = compute_importance(job_for(model, tmp_path / "i.gguf"))
    for layer in range(2):
        router = matrix.entries[f"blk.{layer}.ffn_gate_inp.weight"]
        for name in ("gate", "up"):
            experts = matrix.entries[f"blk.{layer}.ffn_{name}_exps.weight"]
            assert len(experts.counts) == len(experts.sums) > 3
            np.testing.assert_allclose(
                experts.sums.sum(axis=0), num_used * router.sums[0], rtol=1e-5
            )
        down = matrix.entries[f"blk.{layer}.ffn_down_exps.weight"]
        assert down.counts.tolist() == experts.counts.tolist()
        assert down.counts.sum() == num_used * 3 * 128
        assert len(set(down.counts)) > 1


@pytest.mark.parametrize("num_given", [1, 2])
def test_routed_rows_go_where_they_were_sent(num_given: int) -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(40, num_given, 6)).astype(np.float32)
    experts = rng.permuted(np.tile(np.arange(5, dtype=np.int32), (40, 1)), axis=1)[:, :2]
    expected, counts = np.zeros((7, 6)), np.zeros(7, np.int64)
    for token, chosen in enumerate(experts):
        for place, expert in enumerate(chosen):
            expected[expert] += np.square(rows[token, place % num_given].astype(np.float64))
            counts[expert] += 1
    sums = ImportanceSums()
    sums.add_routed("w", rows[:13], experts[:13], num_experts=7)
    sums.add_routed("w", rows[13:], experts[13:], num_experts=7)
    entry = sums.matrix("text", 512).entries["w"]
    np.testing.assert_allclose(entry.sums, expected, rtol=1e-6)
    assert entry.counts.tolist() == counts.tolist()
    assert entry.counts[5:].tolist() == [0, 0]


def test_matrices_of_one_tensor_share_rows_as_the_product_does() -> None:
    """A weight of 2 matrices and rows of 4: rows 0 and 2 are the first one's
    (ggml_mul_mat repeats the weight).
    """
    rows = np.random.default_rng(6).normal(size=(1, 4, 20, 3)).astype(np.float32)
    sums = ImportanceSums()
    sums.add("w", rows, (1, 2))
    entry = sums.matrix("text", 512).entries["w"]
    squares = np.square(rows[0].astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(
        entry.sums, [squares[0] + squares[2], squares[1] + squares[3]], rtol=1e-6
    )
    assert entry.counts.tolist() == [40]


# --- beside llama.cpp -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["novels-6m", "mixtral"])
def test_it_is_what_llama_imatrix_computes(name: str, novels: Path, tmp_path: Path) -> None:
    """Made as golden/imatrix/README.md says."""
    theirs = read_imatrix(THEIRS / f"{name}.imatrix")
    model = (
        novels
        if name == "novels-6m"
        else converted(golden_checkpoint(name, tmp_path / name), tmp_path)
    )
    job = ImportanceJob(
        model=model,
        text=THEIRS / "text.txt",
        out=tmp_path / "i.gguf",
        threads=1,
        chunk_tokens=theirs.chunk_size,
        max_chunks=theirs.chunk_count,
    )
    ours = compute_importance(job)
    assert set(ours.entries) == set(theirs.entries)
    for weight, entry in ours.entries.items():
        assert entry.counts.tolist() == theirs.entries[weight].counts.tolist()
        np.testing.assert_allclose(
            entry.sums, theirs.entries[weight].sums, rtol=1e-4, err_msg=weight
        )


@pytest.mark.parametrize("name", ["novels-6m", "mixtral"])
def test_a_file_of_llama_imatrix_is_written_again_byte_for_byte(name: str, tmp_path: Path) -> None:
    theirs = THEIRS / f"{name}.imatrix"
    write_imatrix(tmp_path / "again.gguf", read_imatrix(theirs))
    assert (tmp_path / "again.gguf").read_bytes() == theirs.read_bytes()


def test_weights_are_means_and_ones_where_nothing_is_known() -> None:
    sums = np.array([[1, 2], [3, 10], [0, 0]], np.float32)
    entries = {
        "experts": Entry(sums, np.array([3, 7, 0])),
        "shared": Entry(sums[:2], np.array([3])),
    }
    matrix = ImportanceMatrix(entries, (), 1, 512)
    weights = matrix.weights("experts")
    assert weights is not None
    assert weights.dtype == np.float32
    assert weights.flags.c_contiguous
    third, seventh = np.float32(3), np.float32(7)
    expected = [
        [sums[0, 0] / third, sums[0, 1] / third],
        [sums[1, 0] / seventh, sums[1, 1] / seventh],
        [1, 1],
    ]
    assert weights.tobytes() == np.array(expected, np.float32).tobytes()
    shared = matrix.weights("shared")
    assert shared is not None
    assert shared.tobytes() == (sums[:2] / third).tobytes()
    assert matrix.weights("token_embd.weight") is None


# --- interrupted ----------------------------------------------------------------------


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(novels: Path, tmp_path: Path) -> None:
    undisturbed = job_for(novels, tmp_path / "undisturbed.gguf", chunk_tokens=64, max_chunks=40)
    compute_importance(undisturbed)
    job = replace(undisturbed, out=tmp_path / "i.gguf", save_interval_s=0)
    with pytest.raises(ChildDied, match="SIGKILL"):
        compute_importance(job, kill_child_at(2))
    assert not job.out.exists()
    assert unfinished_path(job.out).exists()
    seen: list[Counted] = []
    compute_importance(job, seen.append)
    assert 2 <= seen[0].done < 40
    assert [progress.done for progress in seen] == list(range(seen[0].done, 41))
    assert job.out.read_bytes() == undisturbed.out.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.gguf", "undisturbed.gguf"]


def test_sums_that_are_kept_spare_the_next_run_all_of_it(novels: Path, tmp_path: Path) -> None:
    job = job_for(novels, tmp_path / "i.gguf", chunk_tokens=64, max_chunks=4, keeps_sums=True)
    compute_importance(job)
    first = job.out.read_bytes()
    seen: list[Counted] = []
    compute_importance(job, seen.append)
    assert seen == [Counted(4, 4)]
    assert job.out.read_bytes() == first


@pytest.mark.parametrize("change", ["text", "chunk_tokens", "model", "damaged", "fewer chunks"])
def test_what_another_run_left_is_not_used(change: str, novels: Path, tmp_path: Path) -> None:
    job = job_for(novels, tmp_path / "i.gguf", max_chunks=40, save_interval_s=0)
    with pytest.raises(ChildDied):
        compute_importance(job, kill_child_at(2))
    unfinished = unfinished_path(job.out)
    if change == "damaged":
        unfinished.write_bytes(unfinished.read_bytes()[:-64])
    changes: dict[str, dict[str, Any]] = {
        "text": {"text": THEIRS / "text.txt"},
        "chunk_tokens": {"chunk_tokens": 64},
        "model": {
            "model": converted(write_checkpoint(tmp_path / "other", Shape()), tmp_path / "other")
        },
        "damaged": {},
        "fewer chunks": {"max_chunks": 1},
    }
    with pytest.raises(_StartedError) as started:
        compute_importance(replace(job, **changes[change]), _end_at_once)
    assert started.value.progress.done == 0


class _StartedError(Exception):
    def __init__(self, progress: Counted) -> None:
        self.progress = progress


def _end_at_once(progress: Counted) -> None:
    raise _StartedError(progress)


def kill_child_at(num_chunks: int) -> Callable[[Counted], None]:
    def kill(progress: Counted) -> None:
        if progress.done == num_chunks:
            for child in psutil.Process().children():
                if "convert.native.importance_child" in child.cmdline():
                    child.kill()

    return kill


# --- refused --------------------------------------------------------------------------

FIELDS = (
    string("general.type", "imatrix"),
    string_array("imatrix.datasets", ["text"]),
    u32("imatrix.chunk_count", 2),
    u32("imatrix.chunk_size", 512),
)


def pair(
    sums: Any = ((1.0, 2.0),), counts: Any = (2.0,), dtype: Any = np.float32
) -> dict[str, NDArray[Any]]:
    return {"w.weight.in_sum2": np.array(sums, dtype), "w.weight.counts": np.array(counts, dtype)}


REFUSED: dict[str, tuple[tuple[Any, ...], dict[str, NDArray[Any]], str]] = {
    "a model": (
        (string("general.architecture", "llama"), *FIELDS),
        pair(),
        "general.architecture is 'llama'",
    ),
    "an adapter": ((string("general.type", "adapter"),), pair(), "general.type is 'adapter'"),
    "of no type": (FIELDS[1:], pair(), "does not declare itself to be an importance matrix"),
    "no chunk count": ((*FIELDS[:2], FIELDS[3]), pair(), "imatrix.chunk_count is missing"),
    "no data sets": ((FIELDS[0], *FIELDS[2:]), pair(), "imatrix.datasets is missing"),
    "nothing known": (FIELDS, {"other": np.ones(2, np.float32)}, "contains no data"),
    "sums alone": (
        FIELDS,
        {"w.weight.in_sum2": np.ones(2, np.float32)},
        "for w.weight it contains only in_sum2",
    ),
    "counts alone": (
        FIELDS,
        {"w.weight.counts": np.ones(1, np.float32)},
        "for w.weight it contains only counts",
    ),
    "wrong type": (FIELDS, pair(dtype=np.float64), "are float64, not float32"),
    "NaN": (
        FIELDS,
        pair(sums=[[1, np.nan]]),
        "the sums of w.weight contain values that are negative, infinite or NaN",
    ),
    "infinite count": (FIELDS, pair(counts=[np.inf]), "the counts of w.weight contain values"),
    "negative": (FIELDS, pair(sums=[[1, -1]]), "the sums of w.weight contain values"),
    "huge count": (FIELDS, pair(counts=[1e30]), "w.weight has a count of 1e+30"),
    "other count": (
        FIELDS,
        pair(sums=np.ones((3, 2)), counts=np.ones((2, 1))),
        "3 rows of sums but 2 counts",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_no_importance_matrix(name: str, tmp_path: Path) -> None:
    fields, tensors, message = REFUSED[name]
    path = tmp_path / "i.gguf"
    write_gguf(path, fields, tensors)
    with pytest.raises(BadInput) as refusal:
        read_imatrix(path)
    assert message in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.gguf", tmp_path / "cut.gguf"
    write_gguf(whole, FIELDS, pair())
    data = whole.read_bytes()
    read_imatrix(whole)
    for num_bytes in range(len(data) - 32):  # behind it there is but padding
        cut.write_bytes(data[:num_bytes])
        with pytest.raises(BadInput):
            read_imatrix(cut)


@pytest.mark.parametrize(
    ("offset", "number"),
    [
        (8, 1 << 62),  # so many tensors
        (16, 1 << 62),  # so many fields
        (24, 1 << 62),  # so long a key
        (16, 3),  # one field is read as a tensor
        (4, 1 << 32),  # version 0
    ],
)
def test_lying_headers_are_refused_at_once(offset: int, number: int, tmp_path: Path) -> None:
    path = tmp_path / "i.gguf"
    write_gguf(path, FIELDS, pair())
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, offset, number)
    path.write_bytes(data)
    with pytest.raises(BadInput):
        read_imatrix(path)


def test_tensors_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """Else a small file could take any amount of memory."""
    path = tmp_path / "i.gguf"
    write_gguf(path, FIELDS, pair())
    data = path.read_bytes()
    second = data.index(b"w.weight.counts") + len("w.weight.counts") + 4 + 8 + 4
    path.write_bytes(data[:second] + struct.pack("<Q", 0) + data[second + 8 :])
    with pytest.raises(BadInput, match="overlaps another"):
        read_imatrix(path)


def test_the_older_format_is_recognized(tmp_path: Path) -> None:
    path = tmp_path / "old.dat"
    name = b"blk.0.attn_q.weight"
    path.write_bytes(struct.pack("<ii", 1, len(name)) + name + struct.pack("<iiff", 4, 2, 1.0, 2.0))
    with pytest.raises(
        BadInput, match=r"older format.*llama-imatrix -m MODEL --in-file old.dat -o old.gguf"
    ):
        read_imatrix(path)
    path.write_text("once upon a time there was a text")
    with pytest.raises(BadInput, match="not even a GGUF file"):
        read_imatrix(path)
    with pytest.raises(MissingFile):
        read_imatrix(tmp_path / "none.gguf")


def test_texts_that_are_of_no_use(novels: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    job = job_for(novels, tmp_path / "i.gguf", text=text, chunk_tokens=512)
    with pytest.raises(MissingFile, match=r"text\.txt cannot be read"):
        compute_importance(job)
    text.write_bytes(b"caf\xe9")
    with pytest.raises(BadInput, match=r"not UTF-8 text \(byte 3 is 0xe9\)"):
        compute_importance(job)
    text.write_text("It was a dark and stormy night. " * 20)
    with pytest.raises(
        BadInput, match=r"too short: it has \d+ tokens, but 1024 are needed \(2 chunks of 512\)"
    ):
        compute_importance(job)
    with pytest.raises(BadInput, match="trained for contexts of 2048 tokens, so windows of 4096"):
        compute_importance(replace(job, chunk_tokens=4096))


def test_models_that_are_of_no_use(novels: Path, tmp_path: Path) -> None:
    out = tmp_path / "i.gguf"
    with pytest.raises(MissingFile, match=r"none\.gguf cannot be read"):
        compute_importance(job_for(tmp_path / "none.gguf", out))
    with pytest.raises(Refused, match="cannot load"):
        compute_importance(job_for(CALIBRATION_TEXT, out))
    encoder = converted(golden_checkpoint("bert", tmp_path / "bert"), tmp_path)
    with pytest.raises(Refused, match="predicts the next token"):
        compute_importance(job_for(encoder, out, chunk_tokens=64))
    with pytest.raises(Refused, match=r"input of blk\.2\.attn_q\.weight contains NaN"):
        compute_importance(
            job_for(with_nan(novels, "blk.2.attn_norm.weight", tmp_path / "nan.gguf"), out)
        )
    with pytest.raises(BadInput, match="is a directory"):
        compute_importance(job_for(novels, tmp_path))
    assert not out.exists()


def with_nan(model: Path, tensor: str, copy: Path) -> Path:
    offset = next(found.data_offset for found in GGUFReader(model).tensors if found.name == tensor)
    data = bytearray(model.read_bytes())
    struct.pack_into("<f", data, int(offset), float("nan"))
    copy.write_bytes(data)
    return copy


# --- the command ----------------------------------------------------------------------


def test_the_command_reports_chunks_and_the_file(
    novels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "i.gguf"
    arguments = [
        str(novels),
        "--out",
        str(out),
        "--chunks",
        "2",
        "--chunk-tokens",
        "64",
        "--threads",
        "1",
    ]
    assert execute(build_parser(), run, [*arguments, "--json"]) == 0
    *_, last, done = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (last["event"], last["unit"], last["done"], last["total"]) == (
        "progress",
        "chunks",
        2,
        2,
    )
    assert (done["event"], done["path"], done["weights"], done["chunks"]) == (
        "done",
        str(out),
        42,
        2,
    )
    assert execute(build_parser(), run, arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{out}  42 weights  2 chunks  ")
    assert captured.err.splitlines()[-1].startswith("novels-6m-F32.gguf: 2 of 2 chunks, 0 s left")
    assert execute(build_parser(), run, [*arguments, "--chunks", "0"]) == 2
    assert "--chunks must be at least 1 (got 0)" in capsys.readouterr().err


def test_time_left_goes_by_what_this_run_did() -> None:
    now = [0.0]
    lines: list[str] = []
    report = ThrottledCount(
        5.0, lambda *state: lines.append(plain_line("m", "chunks", *state)), clock=lambda: now[0]
    )
    for done in range(6, 11):  # six were there already
        report(Counted(done, 10))
        now[0] += 3.0
    assert lines == ["m: 8 of 10 chunks, 6 s left", "m: 10 of 10 chunks, 0 s left"]


def assert_equal(ours: ImportanceMatrix, theirs: ImportanceMatrix) -> None:
    assert (ours.datasets, ours.chunk_count, ours.chunk_size) == (
        theirs.datasets,
        theirs.chunk_count,
        theirs.chunk_size,
    )
    assert set(ours.entries) == set(theirs.entries)
    for name, entry in ours.entries.items():
        assert entry.sums.tobytes() == theirs.entries[name].sums.tobytes()
        assert entry.counts.tolist() == theirs.entries[name].counts.tolist()
