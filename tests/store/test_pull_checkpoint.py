"""A checkpoint arrives with what `convert` reads, whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from appliance.errors import BadModelFile, PullFailed, SetupError
from appliance.store.catalog import load_catalog
from appliance.store.hub.client import list_repository
from appliance.store.hub.records import Repository
from appliance.store.hub_contents import find_descriptions, find_weights
from appliance.store.models import ModelStore
from appliance.store.pull import Destination, pull_checkpoint
from tests.convert.checkpoints import Shape, write_checkpoint
from tests.store.hub_server import Fault, HubServer
from tests.store.pulling import DiskUsage


@pytest.fixture
def sharded(hub: HubServer, tmp_path: Path) -> Repository:
    """With files that nobody needs, one of them dangerous."""
    source = write_checkpoint(tmp_path / "source", Shape(), num_shards=2)
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    hub.add(
        "org/tiny",
        {
            **files,
            "pytorch_model.bin": b"pickle",
            "modeling.py": b"import os",
            "extra.safetensors": b"",
        },
    )
    return list_repository("org/tiny")


def test_of_a_checkpoint_only_what_is_read_is_fetched(
    hub: HubServer, sharded: Repository, to: Destination
) -> None:
    folder = pull_checkpoint(sharded, {"Q8_0": 1000}, to, lambda event: None)

    fetched = {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors.index.json",
    } | {f"model-0000{index}-of-00002.safetensors" for index in (1, 2)}
    there = {path.name: path.read_bytes() for path in (folder / "checkpoint").iterdir()}
    assert there == {name: hub.repositories["org/tiny"][name] for name in there}
    assert (
        set(there)
        == {name for name, _ in hub.downloads()}
        == fetched & set(hub.repositories["org/tiny"])
    )
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [".lock"]

    hub.requests.clear()
    pull_checkpoint(sharded, {"Q2_K": 1000}, to, lambda event: None)
    assert hub.requests == []
    assert ModelStore(to.models_dir, load_catalog()).resolve("org/tiny").types == ("Q8_0", "Q2_K")


def test_half_a_checkpoint_is_none_and_is_completed_later(
    hub: HubServer, sharded: Repository, to: Destination
) -> None:
    second = "model-00002-of-00002.safetensors"
    hub.order(second, *[Fault(status=404)])

    with pytest.raises(PullFailed, match=f"lists {second} of org/tiny but cannot find it"):
        pull_checkpoint(sharded, {"Q8_0": 1000}, to, lambda event: None)
    assert not (to.models_dir / "tiny" / "checkpoint").exists()
    assert ModelStore(to.models_dir, load_catalog()).resolve("org/tiny").must_be_pulled

    hub.requests.clear()
    assert (
        pull_checkpoint(sharded, {"Q8_0": 1000}, to, lambda event: None) / "checkpoint" / second
    ).exists()
    assert hub.downloads() == [(second, None)]


def test_room_is_needed_for_the_checkpoint_and_for_what_it_becomes(
    hub: HubServer, sharded: Repository, to: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: DiskUsage(free=50_000_000))

    with pytest.raises(
        SetupError,
        match=r"The checkpoint and what it is converted to take 60\.\d MB more, but .* 50\.0",
    ):
        pull_checkpoint(sharded, {"Q8_0": 60_000_000}, to, lambda event: None)
    assert not [name for name, _ in hub.downloads() if name.endswith(".safetensors")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"config.json": b"{}", "pytorch_model.bin": b""},
            "neither GGUF files nor a checkpoint.*never downloaded",
        ),
        ({"README.md": b""}, "neither GGUF files nor a checkpoint"),
    ],
)
def test_a_repository_without_a_model(
    files: dict[str, bytes], message: str, hub: HubServer
) -> None:
    hub.add("org/none", files)

    with pytest.raises(BadModelFile, match=message):
        find_descriptions(list_repository("org/none"))


@pytest.mark.parametrize(
    "weight_map", [None, {}, [], {"a": "../b.safetensors"}, {"a": "b.bin"}, {"a": 5}]
)
def test_an_index_that_is_none(weight_map: object) -> None:
    repository = Repository("org/a", "0" * 40, ())

    with pytest.raises(BadModelFile, match="is not a valid index"):
        find_weights(repository, json.dumps({"weight_map": weight_map}).encode())
