"""A repository of one small GGUF file, and how tests pull it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.store.hub.records import Repository
from appliance.store.hub_contents import HubGguf
from appliance.store.pull import Destination, pull_gguf

REPO = "org/tiny-GGUF"
NAME = "tiny-Q8_0.gguf"


@dataclass(frozen=True)
class DiskUsage:
    """As of `shutil.disk_usage`."""

    free: int


def pull(repository: Repository, to: Destination, on_event: Any = lambda event: None) -> Path:
    file = repository.find(NAME)
    assert file is not None
    return pull_gguf(repository, HubGguf(NAME, (file,)), to, on_event)


def left_behind(to: Destination) -> list[str]:
    return sorted(
        str(path.relative_to(to.models_dir))
        for path in to.models_dir.rglob("*")
        if path.is_file() and path.name not in (".lock", "hub.json")
    )
