"""Outputs cut into files that are no larger than wanted, in llama.cpp's form."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from appliance.store.split import read_model_header
from convert.__main__ import main
from convert.errors import BadInput
from convert.pipeline import Job, WrittenFile, convert
from tests.convert.checkpoints import EMBEDDED, Shape, write_checkpoint

LIMIT = 45_000
SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source"), Shape(num_layers=2))


def converted(source: Path, out: Path, max_file_bytes: int | None) -> WrittenFile:
    (written,) = convert(
        Job(
            source=source,
            directory=out,
            name="m",
            types=("Q8_0",),
            num_threads=2,
            max_file_bytes=max_file_bytes,
        )
    )
    return written


def tensors(paths: tuple[Path, ...]) -> list[tuple[str, str, bytes]]:
    return [
        (tensor.name, tensor.tensor_type.name, np.asarray(tensor.data).tobytes())
        for path in paths
        for tensor in GGUFReader(path).tensors
    ]


def test_the_parts_hold_what_the_whole_file_does(source: Path, tmp_path: Path) -> None:
    whole = converted(source, tmp_path / "whole", None)
    parts = converted(source, tmp_path / "parts", LIMIT)

    count = len(parts.paths)
    assert count == 3
    assert [path.name for path in parts.paths] == [
        f"m-Q8_0-{number:05}-of-00003.gguf" for number in (1, 2, 3)
    ]
    assert tensors(parts.paths) == tensors(whole.paths)
    sizes = [path.stat().st_size for path in parts.paths]
    assert max(sizes) <= LIMIT
    assert sum(sizes) == parts.num_bytes

    readers = [GGUFReader(path) for path in parts.paths]
    num_tensors = len(GGUFReader(whole.path).tensors)
    for index, reader in enumerate(readers):
        found = [reader.fields[key] for key in SPLIT_KEYS]
        assert [field.contents() for field in found] == [index, count, num_tensors]
        assert [field.types[0].name for field in found] == ["UINT16", "UINT16", "INT32"]
    metadata = set(GGUFReader(whole.path).fields)
    assert set(readers[0].fields) == metadata | set(SPLIT_KEYS)
    assert set(readers[1].fields) == {key for key in metadata if key.startswith("GGUF.")} | set(
        SPLIT_KEYS
    )
    assert len(read_model_header(parts.path).tensors) == num_tensors

    again = converted(source, tmp_path / "again", LIMIT)
    assert [path.read_bytes() for path in again.paths] == [p.read_bytes() for p in parts.paths]


def test_the_smallest_size_is_told_and_will_do(source: Path, tmp_path: Path) -> None:
    limit = 20_000
    for _ in range(4):  # one tensor after the other may be the one that does not fit
        try:
            written = converted(source, tmp_path, limit)
            break
        except BadInput as error:
            message = str(error)
            needed = re.search(r"must be at least (\d+) bytes for m-Q8_0\.gguf", message)
            assert needed is not None, message
            assert "which stays whole" in message
            limit = int(needed[1])
            assert list(tmp_path.iterdir()) == []
    assert max(path.stat().st_size for path in written.paths) == limit


def test_a_model_is_there_in_one_form_only(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "m-Q8_0-extra.gguf"
    other.touch()
    kept = {other}
    for limit in (None, LIMIT, 60_000, None, 10**9):
        written = converted(source, tmp_path, limit)
        assert set(tmp_path.iterdir()) == {*written.paths, *kept}
    assert [path.name for path in written.paths] == ["m-Q8_0.gguf"], "it is no larger"


def test_llama_cpp_reads_the_parts_before_they_have_their_names(tmp_path: Path) -> None:
    arguments = ["--types", "Q8_0", "--name", "m", "--split-max-size", "700K", "--verify-quality"]
    assert main([str(EMBEDDED / "novels-draft"), "--out", str(tmp_path), *arguments]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) > 1
    assert names[0] == f"m-Q8_0-00001-of-{len(names):05}.gguf"


@pytest.mark.parametrize("size", ["0", "4GiB", "x", "-1M"])
def test_a_size_that_is_none(size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--out", str(tmp_path / "out"), f"--split-max-size={size}"]
    assert main([str(tmp_path), *arguments]) == 2
    assert f"must be a size such as 4G or 500M (got '{size}')" in capsys.readouterr().err
