"""Preparing a model in a child: what went wrong comes back as it was, and cancelling
ends all that it started.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from appliance.errors import BadModelFile, BadSettings
from appliance.launch.prepare_child import prepare_in_child
from appliance.launch.spec import ModelSpec
from tests.conftest import CHECKPOINT
from tests.launch.specs import Events, spec_of


async def test_a_checkpoint_is_converted(tmp_path: Path) -> None:
    events = Events()
    await prepare_in_child(spec_of(tmp_path, str(CHECKPOINT), quant="Q8_0"), events)
    assert events[-1].done_bytes == events[-1].total_bytes > 0
    assert [path.name for path in (tmp_path / "models").rglob("*.gguf")] == ["novels-6m-Q8_0.gguf"]


async def test_errors_come_back_as_they_were(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(BadModelFile, match=r"broken\.gguf"):
        await prepare_in_child(spec_of(tmp_path, str(broken)), Events())
    with pytest.raises(BadSettings, match="There is no model 'nonesuch'"):
        await prepare_in_child(spec_of(tmp_path, "nonesuch"), Events())


async def test_cancelling_ends_the_child_and_its_converter_and_leaves_nothing_unfinished(
    tmp_path: Path,
) -> None:
    spec = spec_of(tmp_path, str(CHECKPOINT), quant="Q8_0")
    preparing = asyncio.create_task(prepare_in_child(spec, Events()))
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


def test_a_child_is_told_all_that_its_parent_plans_with(tmp_path: Path) -> None:
    spec = replace(
        spec_of(
            tmp_path,
            "org/repo:Q8_0",
            ctx=512,
            kv_cells=1024,
            kv_type="q8_0/q4_0",
            flash_attention=True,
            mmap=True,
            tensor_split=(3.0, 0.5),
            draft="auto",
            prefix_ttl_s=5400.0,
        ),
        ram=3 << 30,
        max_body_bytes=1 << 20,
        log_level="debug",
    )
    assert ModelSpec.from_bytes(spec.to_bytes()) == spec
