"""Computing an importance matrix: against numpy, against llama.cpp's own tool, and
interrupted.
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
from convert.importance.imatrix_file import ImportanceMatrix, read_imatrix
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
    """The last layer too, of which llama.cpp computes only rows
    that something is asked of.
    """
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
    """Made as golden/imatrix/README.md says. Another CPU rounds otherwise: on one with
    AVX2 alone a single value is 7e-4 off, which all together are not.
    """
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
        expected = theirs.entries[weight].sums
        np.testing.assert_allclose(entry.sums, expected, rtol=1e-3, err_msg=weight)
        assert np.linalg.norm(entry.sums - expected) < 1e-4 * np.linalg.norm(expected), weight


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
