"""Files in huge pages, on this kernel and this file system."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from appliance.llama.loading import weight_files
from appliance.llama.loading.weight_files import files_of, read_in_huge_pages

HUGE_PAGE = 2 << 20


def written(path: Path, size: int) -> Path:
    """On disk, and in memory in small pages, as any program leaves it."""
    with path.open("wb") as file:
        for _ in range(size >> 16):
            file.write(os.urandom(1 << 16))
        file.write(b"end"[: size % (1 << 16)])
        file.flush()
        os.fsync(file.fileno())
    return path


def test_a_file_in_memory_is_read_again_in_huge_pages(tmp_path: Path) -> None:
    path = written(tmp_path / "model.gguf", 2 * HUGE_PAGE + 3)
    content = path.read_bytes()
    huge = read_in_huge_pages(path)
    if huge == 0:
        pytest.skip("this kernel keeps no files of this file system in huge pages")
    assert huge == 2 * HUGE_PAGE
    assert path.read_bytes() == content
    assert read_in_huge_pages(path) == 2 * HUGE_PAGE  # and stays so


def test_a_file_that_others_map_stays_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "model.gguf", 2 * HUGE_PAGE)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        content = mapped[:]
        read_in_huge_pages(path)
        assert mapped[:] == content


@pytest.mark.parametrize("advice", ["_MADV_POPULATE_READ", "_MADV_COLLAPSE"])
def test_a_kernel_that_does_not_know_an_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, advice: str
) -> None:
    path = written(tmp_path / "model.gguf", 2 * HUGE_PAGE)
    monkeypatch.setattr(weight_files, advice, 9999)
    assert read_in_huge_pages(path) in (0, 2 * HUGE_PAGE)


def test_what_is_no_large_file_is_left_to_whoever_loads_it(tmp_path: Path) -> None:
    assert read_in_huge_pages(tmp_path / "missing.gguf") == 0
    assert read_in_huge_pages(tmp_path) == 0
    assert read_in_huge_pages(written(tmp_path / "small.gguf", 70000)) == 0


def test_all_parts_of_a_model_are_found(tmp_path: Path) -> None:
    parts = [tmp_path / f"model-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    for part in (*parts, tmp_path / "model.gguf", tmp_path / "other-00002-of-00003.gguf"):
        part.touch()
    assert files_of(parts[0]) == parts
    assert files_of(tmp_path / "model.gguf") == [tmp_path / "model.gguf"]
