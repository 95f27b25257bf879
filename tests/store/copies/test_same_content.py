"""What is on this machine already is not downloaded again, whatever it is called."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.store.catalog import load_catalog
from appliance.store.event import StoreEvent
from appliance.store.hub.client import list_repository
from appliance.store.hub_contents import HubGguf
from appliance.store.models import ModelStore
from appliance.store.pull import Destination, pull_checkpoint, pull_gguf
from tests.convert.checkpoints import Shape, write_checkpoint
from tests.store.hub_server import HubServer
from tests.store.pulling import NAME, REPO, left_behind, pull

OTHER = "other/same-GGUF"


def pull_other(hub: HubServer, to: Destination, content: bytes) -> tuple[Path, list[str]]:
    """The same content in another repository, by another name; and what was told."""
    hub.add(OTHER, {"same-Q8_0.gguf": content})
    repository = list_repository(OTHER)
    events: list[StoreEvent] = []
    model = HubGguf("same-Q8_0.gguf", repository.files)
    return pull_gguf(repository, model, to, events.append), [event.text for event in events]


@pytest.fixture
def pulled(hub: HubServer, content: bytes, to: Destination) -> Path:
    hub.add(REPO, {NAME: content})
    path = pull(list_repository(REPO), to)
    hub.requests.clear()
    return path


def test_the_same_content_of_another_repository_is_linked(
    hub: HubServer, content: bytes, to: Destination, pulled: Path
) -> None:
    path, told = pull_other(hub, to, content)

    assert hub.downloads() == []
    assert path.samefile(pulled)
    assert told == [
        f"checking {NAME}",
        f"same-Q8_0.gguf is here already: taken from {pulled}",
    ]
    assert left_behind(to) == ["same-GGUF/same-Q8_0.gguf", f"tiny-GGUF/{NAME}"]
    ModelStore(to.models_dir, load_catalog()).remove(REPO)
    assert path.read_bytes() == content, "each has the file without the other"


def test_without_hard_links_it_is_copied(
    hub: HubServer, content: bytes, to: Destination, pulled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)

    path, _told = pull_other(hub, to, content)

    assert (hub.downloads(), path.samefile(pulled), path.read_bytes()) == ([], False, content)


def test_a_copy_that_was_changed_is_not_taken(
    hub: HubServer, content: bytes, to: Destination, pulled: Path
) -> None:
    pulled.write_bytes(content[:-1] + b"?")

    path, told = pull_other(hub, to, content)

    assert hub.downloads() == [("same-Q8_0.gguf", None)]
    assert path.read_bytes() == content
    assert not any("taken from" in text for text in told)


def test_a_file_of_a_given_folder_is_copied_by_its_content(
    hub: HubServer, content: bytes, to: Destination, tmp_path: Path
) -> None:
    stick = tmp_path / "stick" / "downloads"
    stick.mkdir(parents=True)
    (stick / "a.gguf").write_bytes(content[:-1] + b"?")  # of the same size
    (stick / "b.bin").write_bytes(content)
    (stick / "c.gguf").symlink_to(stick / "b.bin")

    path, told = pull_other(hub, replace(to, from_dirs=(stick.parent,)), content)

    assert hub.downloads() == []
    assert (path.read_bytes(), path.samefile(stick / "b.bin")) == (content, False)
    assert told == [
        "checking a.gguf",
        "checking b.bin",
        f"same-Q8_0.gguf is here already: taken from {stick / 'b.bin'}",
        "copying same-Q8_0.gguf",
    ]


def test_of_a_new_revision_only_what_changed_is_fetched(
    hub: HubServer, to: Destination, tmp_path: Path
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(), num_shards=2)
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    hub.add("org/tiny", files)
    folder = pull_checkpoint(list_repository("org/tiny"), {"Q8_0": 0}, to, lambda _event: None)
    hub.requests.clear()
    shard = next(name for name in files if name.endswith(".safetensors"))
    changed = files[shard][:-2] + bytes([files[shard][-2] ^ 1]) + files[shard][-1:]
    hub.add("org/tiny", {**files, shard: changed})

    pull_checkpoint(list_repository("org/tiny"), {"Q8_0": 0}, to, lambda _event: None)

    fetched = [name for name, _range in hub.downloads() if name.endswith(".safetensors")]
    assert fetched == [shard]
    there = {name: (folder / "checkpoint" / name).read_bytes() for name in files}
    assert there == {**files, shard: changed}
