"""Fixtures for commands that ask a hub, which runs on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import CHECKPOINT, Embedded
from tests.known_machine import know_machine
from tests.store.hub_server import HubServer, running_hub

GGUFS, WEIGHTS = "org/novels-GGUF", "org/novels"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hub(embedded: Embedded) -> Iterator[HubServer]:
    """With the embedded model as GGUF files among
    which to choose, and as a checkpoint.
    """
    with running_hub() as server:
        files = [embedded.files[quant] for quant in ("Q8_0", "Q4_K_M", "Q2_K")]
        ggufs = {path.name: path.read_bytes() for path in files}
        server.add(
            GGUFS, {**ggufs, "mmproj-F16.gguf": b"no language model", "README.md": b"# Novels"}
        )
        server.add(
            WEIGHTS,
            {path.name: path.read_bytes() for path in CHECKPOINT.iterdir() if path.is_file()},
        )
        yield server


@pytest.fixture
def environment(hub: HubServer, tmp_path: Path) -> dict[str, str]:
    """Of a machine that is known."""
    know_machine(tmp_path / "state")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("APPLIANCE_", "HF_", "XDG_"))
    }
    directories = {
        "APPLIANCE_MODELS_DIR": str(tmp_path / "models"),
        "APPLIANCE_STATE_DIR": str(tmp_path / "state"),
    }
    return {**kept, **directories, "HOME": str(tmp_path), "HF_ENDPOINT": hub.url}


@pytest.fixture
def run(environment: Mapping[str, str], tmp_path: Path) -> Run:
    """Runs a command to its end; `HF_` variables may be added."""

    def run(*argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "appliance", *argv]
        return subprocess.run(
            command,
            env={**environment, **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
