"""Importance matrix files: written as llama.cpp's tool does, refused where damaged."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convert.errors import BadInput, MissingFile
from convert.gguf.file import write_gguf
from convert.gguf.header import string, string_array, u32
from convert.importance.imatrix_file import Entry, ImportanceMatrix, read_imatrix, write_imatrix
from tests.convert.checkpoints import GOLDEN

THEIRS = GOLDEN / "imatrix"


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
