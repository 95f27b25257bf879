"""Models split over several files by gguf's own writer: served by their first part,
listed and pulled as one, and told what is missing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import pytest

from appliance.errors import BadModelFile, BadSettings
from appliance.launch.hub_choice import look_at
from appliance.store.catalog import load_catalog
from appliance.store.gguf_header import read_header
from appliance.store.hub.client import list_repository
from appliance.store.hub_contents import HubGguf, find_gguf_files
from appliance.store.models import ModelStore
from appliance.store.pull import Destination, pull_gguf
from appliance.store.remote_headers import read_remote_header
from appliance.store.servable import gguf_files, read_servable_header
from appliance.store.split import files_of, part_name, read_model_header
from tests.store.hub_server import HubServer
from tests.store.samples import Sample, write_sample

REPO = "org/parts-GGUF"


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "parts"
    folder.mkdir()
    write_sample(folder / "m-Q8_0.gguf", Sample(), split_max_tensors=2)
    return sorted(folder.iterdir())


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", load_catalog())


def test_the_parts_are_one_model(parts: list[Path], tmp_path: Path) -> None:
    assert [path.name for path in parts] == [
        "m-Q8_0-00001-of-00002.gguf",
        "m-Q8_0-00002-of-00002.gguf",
    ]
    whole = read_header(write_sample(tmp_path / "whole.gguf", Sample()))
    header = read_model_header(parts[0])
    assert [(t.name, t.shape, t.num_bytes) for t in header.tensors] == [
        (t.name, t.shape, t.num_bytes) for t in whole.tensors
    ]
    assert header.num_file_bytes == sum(path.stat().st_size for path in parts)
    assert (header.path, header.quantization) == (parts[0], "Q8_0")
    assert header.array("tokenizer.ggml.tokens") == whole.array("tokenizer.ggml.tokens")


def test_any_part_stands_for_the_model(parts: list[Path], store: ModelStore) -> None:
    whole_name = parts[0].with_name("m-Q8_0.gguf")
    for path in (*parts, whole_name):
        source = store.resolve(str(path))
        assert (source.name, source.files) == ("m-Q8_0", (parts[0],))
    assert files_of(parts[0]) == parts
    assert files_of(parts[1]) == [parts[1]]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_part_is_named(lost: int, parts: list[Path], store: ModelStore) -> None:
    parts[lost].unlink()
    (path,) = store.resolve(str(parts[1 - lost])).files
    message = rf"split into 2 files, of which {parts[lost].name} is missing in {parts[0].parent}"
    with pytest.raises(BadModelFile, match=message):
        read_servable_header(path)


def test_one_of_one_is_a_whole_file(store: ModelStore, tmp_path: Path) -> None:
    path = write_sample(tmp_path / "x-00001-of-00001.gguf", Sample(), [("split.count", 1)])
    assert store.resolve(str(path)).name == "x"
    assert read_servable_header(path).tensors == read_header(path).tensors


def test_a_name_alone_makes_no_part(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "x-00001-of-00003.gguf", Sample())
    assert read_servable_header(path).tensors == read_header(path).tensors


def test_parts_of_other_names_are_told_theirs(parts: list[Path], tmp_path: Path) -> None:
    for index, part in enumerate(parts):
        renamed = tmp_path / f"renamed{index}.gguf"
        shutil.copy(part, renamed)
        message = rf"is part {index + 1} of a model split into 2 files.*-0000{index + 1}-of-00002"
        with pytest.raises(BadModelFile, match=message):
            read_servable_header(renamed)


def test_parts_that_do_not_belong_together(parts: list[Path], tmp_path: Path) -> None:
    good = parts[1].read_bytes()
    shutil.copy(parts[0], parts[1])
    with pytest.raises(BadModelFile, match="says that it is part 1 of 2"):
        read_servable_header(parts[0])
    parts[1].write_bytes(good[:-1])
    with pytest.raises(BadModelFile, match="it was cut short"):
        read_servable_header(parts[0])
    other = tmp_path / "other"
    other.mkdir()
    write_sample(other / "m-Q8_0.gguf", Sample(layers=1), split_max_tensors=2)
    shutil.copy(other / parts[1].name, parts[1])
    with pytest.raises(BadModelFile, match="its parts have 4 tensors, but they have 3"):
        read_servable_header(parts[0])


def test_a_tensor_in_two_parts(tmp_path: Path) -> None:
    for index in (1, 2):
        extra = [("split.no", index - 1), ("split.count", 2)]
        write_sample(tmp_path / f"m-0000{index}-of-00002.gguf", Sample(), extra)
    with pytest.raises(BadModelFile, match=r"both contain the tensor token_embd\.weight"):
        read_servable_header(tmp_path / "m-00001-of-00002.gguf")


def test_a_folder_lists_a_model_once(parts: list[Path], store: ModelStore, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    for part in parts:
        shutil.copy(part, folder)
    assert gguf_files(folder) == (folder / parts[0].name,)
    (known,) = (model for model in store.list_models() if model.name == "mine")
    assert known.files == (folder / parts[0].name,)
    (folder / parts[0].name).unlink()
    assert gguf_files(folder) == (folder / parts[1].name,), "or nobody would hear of it"


@pytest.mark.parametrize(
    "name", ["a.gguf", "a-1-of-2.gguf", "a-00003-of-00002.gguf", "-00001-of-00002.gguf"]
)
def test_names_that_say_nothing_of_parts(name: str) -> None:
    assert part_name(name) is None


# --- on a hub -------------------------------------------------------------------------


def publish(hub: HubServer, parts: list[Path]) -> HubGguf:
    hub.add(REPO, {f"Q8_0/{path.name}": path.read_bytes() for path in parts})
    (model,) = find_gguf_files(list_repository(REPO)).models
    return model


def test_a_model_in_parts_is_looked_at_as_one(hub: HubServer, parts: list[Path]) -> None:
    model = publish(hub, parts)
    header = read_remote_header(list_repository(REPO), model, parts[0].parent)
    assert header == read_model_header(parts[0])


def test_a_model_in_parts_is_pulled_as_one(
    hub: HubServer, parts: list[Path], to: Destination
) -> None:
    model, repository = publish(hub, parts), list_repository(REPO)
    first = pull_gguf(repository, model, to, lambda event: None)
    folder = to.models_dir / "parts-GGUF"
    assert first == folder / parts[0].name
    assert [path.read_bytes() for path in files_of(first)] == [p.read_bytes() for p in parts]
    store = ModelStore(to.models_dir, load_catalog())
    for choice in ("", ":Q8_0", ":m-Q8_0"):
        assert store.resolve(REPO + choice).files == (first,)
    hub.requests.clear()
    assert pull_gguf(repository, model, to, lambda event: None) == first
    assert hub.requests == []

    (folder / parts[1].name).unlink()
    assert store.resolve(REPO).must_be_pulled
    pull_gguf(repository, model, to, lambda event: None)
    assert [name for name, _ in hub.downloads()] == [f"Q8_0/{parts[1].name}"]
    store.remove(REPO)
    assert not folder.exists()


def test_a_repository_that_lacks_a_part(
    hub: HubServer, parts: list[Path], store: ModelStore
) -> None:
    hub.add(REPO, {parts[1].name: parts[1].read_bytes()})
    with pytest.raises(BadSettings, match=rf"of which {parts[0].name} is missing"):
        look_at(store.resolve(REPO), lambda event: None)


def test_look_at_chooses_among_whole_and_split_models(
    hub: HubServer, parts: list[Path], store: ModelStore, tmp_path: Path
) -> None:
    sample = Sample(file_type=gguf.LlamaFileType.ALL_F32, ggml_type=gguf.GGMLQuantizationType.F32)
    whole = write_sample(tmp_path / "m-F32.gguf", sample)
    hub.add(REPO, {path.name: path.read_bytes() for path in (*parts, whole)})
    remote = look_at(store.resolve(REPO), lambda event: None)
    assert {header.quantization for header in remote.model.headers} == {"Q8_0", "F32"}
    assert sorted(len(model.files) for model in remote.files.values()) == [1, 2]
    (header,) = look_at(store.resolve(f"{REPO}:Q8_0"), lambda event: None).model.headers
    assert header.path.name == parts[0].name
