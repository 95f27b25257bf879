"""Preparing a model in a child: what went wrong comes back as it was, and cancelling
ends all that it started.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from appliance.errors import BadModelFile, BadSettings
from appliance.launch.prepare_child import prepare_in_child
from appliance.settings import ServeSettings
from tests.conftest import CHECKPOINT


def settings(tmp_path: Path, model: str) -> ServeSettings:
    return ServeSettings(
        model=(model,), quant="Q8_0", models_dir=tmp_path / "models", state_dir=tmp_path
    )


async def test_a_checkpoint_is_converted(tmp_path: Path) -> None:
    await prepare_in_child(settings(tmp_path, str(CHECKPOINT)))
    assert [path.name for path in (tmp_path / "models").rglob("*.gguf")] == ["novels-6m-Q8_0.gguf"]


async def test_errors_come_back_as_they_were(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(BadModelFile, match=r"broken\.gguf"):
        await prepare_in_child(settings(tmp_path, str(broken)))
    with pytest.raises(BadSettings, match="There is no model 'nonesuch'"):
        await prepare_in_child(settings(tmp_path, "nonesuch"))


async def test_cancelling_ends_the_child_and_its_converter_and_leaves_nothing_unfinished(
    tmp_path: Path,
) -> None:
    preparing = asyncio.create_task(prepare_in_child(settings(tmp_path, str(CHECKPOINT))))
    children: list[psutil.Process] = []
    while len(children) < 2:  # the child, and its converter
        await asyncio.sleep(0.01)
        assert not preparing.done()
        children = psutil.Process().children(recursive=True)
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing
    psutil.wait_procs(children, timeout=30)
    assert [
        child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    ] == []
    assert list(tmp_path.rglob("*.gguf")) == []
