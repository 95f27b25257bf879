"""A model that was found is put into the models directory, and nothing is written twice."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import BadModelFile, SetupError
from appliance.store.hub_folder import read_record
from appliance.store.imports.found import FoundFile, FoundModel
from appliance.store.imports.placing import Placing, Way, place
from appliance.store.split import files_of
from tests.store.imports.folders import write_gguf
from tests.store.samples import Sample, write_sample


@pytest.fixture
def placing(tmp_path: Path) -> Placing:
    return Placing(
        models_dir=tmp_path / "models",
        reserved=frozenset({"reserved"}),
        copies=False,
        on_event=lambda _event: None,
    )


@pytest.fixture
def tiny(tmp_path: Path) -> FoundModel:
    path = write_gguf(tmp_path / "theirs" / "blob")
    file = FoundFile(path=path, name="tiny.gguf")
    return FoundModel(name="tiny", origin="ollama.com/library/tiny", files=(file,))


def without_links(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr("fcntl.ioctl", refuse)


def there(placing: Placing) -> list[str]:
    found = placing.models_dir.rglob("*")
    return sorted(
        str(path.relative_to(placing.models_dir))
        for path in found
        if path.is_file() and path.name != ".lock"
    )


def test_it_has_a_folder_and_a_record_and_takes_no_space(
    tiny: FoundModel, placing: Placing
) -> None:
    placed = place(tiny, placing)
    assert (placed.folder, placed.way) == (placing.models_dir / "tiny", Way.SHARED)
    assert there(placing) == ["tiny/hub.json", "tiny/tiny.gguf"]
    source = tiny.files[0].path
    assert (placed.folder / "tiny.gguf").read_bytes() == source.read_bytes()
    record = read_record(placed.folder)
    assert record is not None
    assert record.repo == "ollama.com/library/tiny"
    source.unlink()
    assert (placed.folder / "tiny.gguf").is_file(), "each is there without the other"


def test_a_second_time_nothing_is_done(tiny: FoundModel, placing: Placing) -> None:
    first = place(tiny, placing)
    before = (first.folder / "tiny.gguf").stat()
    assert place(tiny, placing) == replace(first, way=Way.HERE)
    assert (first.folder / "tiny.gguf").stat().st_ctime_ns == before.st_ctime_ns


def test_the_same_content_by_another_name_is_one_model(tiny: FoundModel, placing: Placing) -> None:
    first = place(tiny, placing)
    other = replace(tiny, name="other", origin="ollama.com/library/other")
    assert place(other, placing) == replace(first, way=Way.HERE)
    assert there(placing) == ["tiny/hub.json", "tiny/tiny.gguf"]


def test_quantizations_of_one_repository_share_a_folder(tmp_path: Path, placing: Placing) -> None:
    for name, tokens in (("a.gguf", 300), ("b.gguf", 301), ("a.gguf", 300)):
        file = FoundFile(path=write_gguf(tmp_path / name, tokens=tokens), name=name)
        place(FoundModel(name=name, origin="org/repo", files=(file,)), placing)
    assert there(placing) == ["repo/a.gguf", "repo/b.gguf", "repo/hub.json"]


def test_a_folder_of_that_name_that_is_another_ones_stays(
    tiny: FoundModel, placing: Placing
) -> None:
    (placing.models_dir / "tiny").mkdir(parents=True)
    placed = place(tiny, placing)
    assert re.fullmatch("tiny-[0-9a-f]{6}", placed.folder.name)
    assert list((placing.models_dir / "tiny").iterdir()) == []


def test_content_that_is_not_what_it_is_kept_as_is_refused(
    tiny: FoundModel, placing: Placing
) -> None:
    [file] = tiny.files
    with pytest.raises(BadModelFile, match="which is not its name: it is damaged"):
        place(replace(tiny, files=(replace(file, sha256="0" * 64),)), placing)
    assert there(placing) == []


def test_all_parts_of_a_model_come(tmp_path: Path, placing: Placing) -> None:
    write_sample(tmp_path / "split.gguf", Sample(), split_max_tensors=2)
    parts = files_of(tmp_path / "split-00001-of-00002.gguf")
    files = tuple(FoundFile(path=path, name=path.name) for path in parts)
    placed = place(FoundModel(name="split", origin="/x/split", files=files), placing)
    assert there(placing) == [
        "split/hub.json",
        "split/split-00001-of-00002.gguf",
        "split/split-00002-of-00002.gguf",
    ]
    assert placed.way is Way.SHARED


def test_a_symbolic_link_is_followed(tiny: FoundModel, placing: Placing, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tiny.files[0].path)
    placed = place(replace(tiny, files=(FoundFile(path=link, name="tiny.gguf"),)), placing)
    assert not (placed.folder / "tiny.gguf").is_symlink()


@pytest.mark.parametrize(
    ("code", "way_out"),
    [
        (errno.EXDEV, "are on different file systems, .* or give --copy, which takes 0.00 GB"),
        (errno.EPERM, "belongs to another user, .* Run this with sudo, or give --copy"),
        (errno.ENOSPC, "No space left on device. Check its permissions and the disk"),
    ],
)
def test_what_cannot_be_shared_is_told_with_the_way_out(
    tiny: FoundModel,
    placing: Placing,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    way_out: str,
) -> None:
    without_links(monkeypatch, code)
    with pytest.raises(SetupError, match=way_out):
        place(tiny, placing)
    assert there(placing) == []


def test_a_copy_where_it_is_asked_for(
    tiny: FoundModel, placing: Placing, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_links(monkeypatch, errno.EXDEV)
    placed = place(tiny, replace(placing, copies=True))
    copied = placed.folder / "tiny.gguf"
    assert placed.way is Way.COPIED
    assert not copied.samefile(tiny.files[0].path)
    assert copied.read_bytes() == tiny.files[0].path.read_bytes()
