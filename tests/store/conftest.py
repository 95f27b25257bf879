"""A hub on loopback, asked by huggingface_hub's own client in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from appliance.store.hub.client import list_repository
from appliance.store.hub.records import Repository
from appliance.store.pull import Destination
from tests.store.hub_server import HubServer, running_hub
from tests.store.pulling import NAME, REPO
from tests.store.samples import Sample, write_sample


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """What the environment would say is read by huggingface_hub when it is imported:
    here it is set afterwards.
    """
    constants = huggingface_hub.constants
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses.json"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("appliance.store.hub.client.FIRST_RETRY_S", 0.0)
    monkeypatch.setattr("appliance.store.fetch._PAUSES_S", (0.0, 0.0))
    with running_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
        huggingface_hub.close_session()


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return write_sample(tmp_path / "sample.gguf", Sample(tokens=2000)).read_bytes()


@pytest.fixture
def repository(hub: HubServer, content: bytes) -> Repository:
    hub.add(REPO, {NAME: content, "README.md": b"# Tiny"})
    return list_repository(REPO)


@pytest.fixture
def to(tmp_path: Path) -> Destination:
    return Destination(tmp_path / "models", frozenset({"reserved"}))
