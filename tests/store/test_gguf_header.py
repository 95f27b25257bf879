"""The header reader agrees with gguf's on good files and refuses every bad one with
BadModelFile.
"""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import BadModelFile
from appliance.store.ggml_types import FILE_TYPES, TYPES_BY_ID
from appliance.store.gguf_header import read_header
from appliance.store.gguf_values import MAX_HEADER_BYTES, MetadataArray
from tests.store.samples import Sample, write_sample


@pytest.fixture(scope="module")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("gguf") / "good.gguf", Sample())


def test_type_table_equals_that_of_gguf() -> None:
    assert {t.type_id: (t.block_values, t.block_bytes) for t in TYPES_BY_ID.values()} == {
        int(ggml_type): size for ggml_type, size in gguf.GGML_QUANT_SIZES.items()
    }
    assert {t.type_id: t.name for t in TYPES_BY_ID.values()} == {
        int(t): t.name for t in gguf.GGML_QUANT_SIZES
    }
    theirs = {
        int(t): t.name.removeprefix("MOSTLY_").removeprefix("ALL_") for t in gguf.LlamaFileType
    }
    theirs.pop(int(gguf.LlamaFileType.GUESSED))
    assert theirs == FILE_TYPES


def test_agrees_with_the_reader_of_gguf(good_file: Path) -> None:
    header, theirs = read_header(good_file), gguf.GGUFReader(good_file)

    assert header.architecture == "llama"
    assert header.quantization == "Q8_0"
    assert header.integer("llama.context_length") == 8192
    assert header.data_offset == theirs.data_offset
    assert [(t.name, t.shape, t.offset, t.num_bytes) for t in header.tensors] == [
        (t.name, tuple(t.shape), t.data_offset, t.n_bytes) for t in theirs.tensors
    ]
    assert [t.ggml_type.name for t in header.tensors] == [
        t.tensor_type.name for t in theirs.tensors
    ]


def test_arrays_are_measured_and_read_when_asked_for(good_file: Path) -> None:
    header = read_header(good_file)

    assert isinstance(header.metadata["tokenizer.ggml.tokens"], MetadataArray)
    assert header.array_length("tokenizer.ggml.tokens") == 300
    assert header.array("tokenizer.ggml.tokens")[299] == "token299"
    assert header.integers("tokenizer.ggml.token_type", 300) == (1,) * 300
    assert header.integers("llama.attention.head_count_kv", 3) == (2, 2, 2)


def test_quantization_without_a_file_type_is_that_of_most_bytes(
    good_file: Path, tmp_path: Path
) -> None:
    data = good_file.read_bytes().replace(b"general.file_type", b"general.file_typo")
    (tmp_path / "untold.gguf").write_bytes(data)

    assert read_header(tmp_path / "untold.gguf").quantization == "Q8_0"


def test_every_truncation_is_refused(good_file: Path, tmp_path: Path) -> None:
    data = good_file.read_bytes()
    cut = tmp_path / "cut.gguf"
    data_offset = read_header(good_file).data_offset

    for length in (*range(0, data_offset, 97), data_offset, len(data) - 32):
        cut.write_bytes(data[:length])
        with pytest.raises(BadModelFile, match=r"cut\.gguf is not a usable GGUF file"):
            read_header(cut)


def test_a_file_cut_in_its_data_is_refused_with_both_sizes(good_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(good_file.read_bytes()[:-1000])

    with pytest.raises(BadModelFile, match=rf"should have \d+ bytes but has {cut.stat().st_size}"):
        read_header(cut)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends within"),
        (b"GGML" + bytes(60), "does not begin with GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version is 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 63, 0), "do not fit in 24 bytes"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 40), "do not fit in 24 bytes"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 62) + bytes(64),
            "at most 65535",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", 99) + bytes(64),
            "has type 99",
        ),
        (
            b"GGUF"
            + struct.pack("<IQQQ", 3, 0, 1, 1)
            + b"k"
            + struct.pack("<IIQ", 9, 8, 1 << 50)
            + bytes(64),
            "has 1125899906842624 values, more than fit",
        ),
        (
            b"GGUF"
            + struct.pack("<IQQQ", 3, 0, 1, 1)
            + b"k"
            + struct.pack("<IIQ", 9, 9, 1)
            + bytes(64),
            "array of type 9",
        ),
        (
            b"GGUF"
            + struct.pack("<IQQQ", 3, 0, 1, 17)
            + b"general.alignment"
            + struct.pack("<II", 4, 24),
            "alignment 24",
        ),
        (
            b"GGUF"
            + struct.pack("<IQQQ", 3, 1, 0, 1)
            + b"t"
            + struct.pack("<IQQQQ", 4, *[1 << 62] * 4)
            + bytes(64),
            "but the whole file has",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 1, 0, 1) + b"t" + struct.pack("<I", 5) + bytes(64),
            "5 dimensions",
        ),
        (
            b"GGUF"
            + struct.pack("<IQQQ", 3, 1, 0, 1)
            + b"t"
            + struct.pack("<IQI", 1, 31, 8)
            + bytes(64),
            "not a multiple of 32",
        ),
    ],
)
def test_lies_are_named(data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "lie.gguf").write_bytes(data)

    with pytest.raises(BadModelFile, match=reason):
        read_header(tmp_path / "lie.gguf")


def test_a_huge_file_of_zeros_is_read_only_up_to_the_bound(tmp_path: Path) -> None:
    file = tmp_path / "zeros.gguf"
    keys = struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 0, MAX_HEADER_BYTES)
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + keys)
    with file.open("r+b") as stream:
        stream.truncate(1 << 40)  # sparse

    with pytest.raises(BadModelFile, match="more than fit"):
        read_header(file)


def test_absent_file_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="No such file"):
        read_header(tmp_path / "absent.gguf")


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_corruption_parses_or_is_refused(
    good_file: Path, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(good_file.read_bytes())
    end = read_header(good_file).data_offset
    for at in data.draw(st.lists(st.integers(0, end - 1), min_size=1, max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    wide = data.draw(st.none() | st.integers(0, end - 8))
    if wide is not None:
        content[wide : wide + 8] = struct.pack("<Q", data.draw(st.integers(0, (1 << 64) - 1)))
    file = tmp_path / "corrupt.gguf"
    file.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])

    tracemalloc.start()
    try:
        header = read_header(file)
        assert all(t.offset + t.num_bytes <= header.num_file_bytes for t in header.tensors)
    except BadModelFile:
        pass  # the other allowed outcome; anything else fails the test
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 8 << 20
