"""ModelScope as a hub: lists, files and errors; and no token goes there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from appliance.errors import BadSettings, PullFailed
from appliance.store.hub.client import list_repository
from appliance.store.hub_folder import read_record
from appliance.store.other_hubs import modelscope
from appliance.store.pull import Destination, pull_checkpoint
from tests.convert.checkpoints import Shape, write_checkpoint
from tests.store.hub_server import Fault, HubServer
from tests.store.pulling import NAME, REPO, pull


@pytest.fixture(autouse=True)
def endpoint(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelscope, "ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HF_TOKEN", "secret")


def test_a_model_is_pulled_and_checked_by_its_hash(
    hub: HubServer, content: bytes, to: Destination
) -> None:
    hub.add(REPO, {NAME: content, "README.md": b"# Tiny"})
    repository = list_repository(REPO, "a" * 40)  # a commit of Hugging Face's is none here

    path = pull(repository, to)

    assert path.read_bytes() == content
    record = read_record(path.parent)
    assert record is not None
    assert record.files[NAME].content_id == hashlib.sha256(content).hexdigest()
    assert record.files[NAME].commit == repository.commit
    assert {request.path for request in hub.requests} == {
        f"/api/v1/models/{REPO}/repo/files",
        f"/models/{REPO}/resolve/master/{NAME}",
    }
    assert {request.token for request in hub.requests} == {None}


def test_a_broken_download_goes_on_where_it_was(
    hub: HubServer, content: bytes, to: Destination
) -> None:
    hub.add(REPO, {NAME: content})
    hub.order(NAME, Fault(cut_after=1000))

    assert pull(list_repository(REPO), to).read_bytes() == content

    ranges = [request.range for request in hub.requests if "/resolve/" in request.path]
    assert ranges == [None, "bytes=1000-"]


def test_other_bytes_than_announced_are_refused(
    hub: HubServer, content: bytes, to: Destination
) -> None:
    hub.add(REPO, {NAME: content})
    hub.order(NAME, Fault(change=lambda sent: sent[:-1] + b"?"))

    with pytest.raises(PullFailed, match="has the SHA-256"):
        pull(list_repository(REPO), to)


def test_a_checkpoint_and_the_state_of_a_repository(
    hub: HubServer, to: Destination, tmp_path: Path
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    hub.add("org/tiny", files)
    repository = list_repository("org/tiny")

    folder = pull_checkpoint(repository, {"Q8_0": 0}, to, lambda _event: None)

    assert {name: (folder / "checkpoint" / name).read_bytes() for name in files} == files
    assert list_repository("org/tiny", "main").commit == repository.commit
    hub.add("org/tiny", {**files, "README.md": b"# Changed"})
    assert list_repository("org/tiny").commit != repository.commit


def test_what_is_not_there_and_what_cannot_be_reached(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadSettings, match=f"{hub.url} shows no repository of that name"):
        list_repository("org/absent")

    monkeypatch.setattr(modelscope, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(PullFailed, match="Check the network, MODELSCOPE_ENDPOINT and the proxy"):
        list_repository(REPO)

    monkeypatch.setattr(modelscope, "ENDPOINT", "modelscope.cn")
    with pytest.raises(BadSettings, match="MODELSCOPE_ENDPOINT must begin with http"):
        list_repository(REPO)
