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
from appliance.launch.cpu_paths import STATE_FILE_NAME
from appliance.launch.prepare_child import plan_in_child, prepare_in_child
from appliance.launch.spec import ModelSpec
from appliance.llama.checks import CpuPaths, PathMemory, PathResult
from tests.conftest import CHECKPOINT, Embedded
from tests.launch.specs import Events, spec_of
from tests.store.hub_server import running_hub


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


async def test_what_would_be_pulled_is_planned_and_nothing_is_fetched(
    tmp_path: Path, embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = PathResult(True, "works")  # known: probing takes seconds, and is tested elsewhere
    spec = spec_of(tmp_path, "org/novels-GGUF")
    spec.state_dir.mkdir()
    PathMemory(spec.state_dir / STATE_FILE_NAME).remember(CpuPaths(works, works))
    files = [embedded.files[quant] for quant in ("Q2_K", "Q8_0")]
    with running_hub() as hub:
        hub.add("org/novels-GGUF", {file.name: file.read_bytes() for file in files})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        best = await plan_in_child(spec, Events())
        none = await plan_in_child(replace(spec, ram=64 << 20), Events())
        assert hub.downloads() == []
    sizes = {"Q2_K": files[0].stat().st_size, "Q8_0": files[1].stat().st_size}
    assert (best.fits, best.quantization, best.sizes) == (True, "Q8_0", sizes)
    assert best.download_bytes == sizes["Q8_0"]
    assert (best.repository, best.is_here) == ("org/novels-GGUF", False)
    assert (none.fits, none.choice, none.download_bytes) == (False, None, None)
    assert none.reason.startswith("Nothing fits: the smallest choice (Q2_K, ")
    assert not spec.models_dir.exists()
    assert (await plan_in_child(spec.named("novels-6m"), Events())).is_here


async def test_cancelling_ends_the_child_and_its_converter_and_leaves_nothing_unfinished(
    tmp_path: Path,
) -> None:
    spec = spec_of(tmp_path, str(CHECKPOINT), quant="Q8_0")
    others = {*psutil.Process().children(recursive=True)}  # which other tests share
    preparing = asyncio.create_task(prepare_in_child(spec, Events()))
    children: list[psutil.Process] = []
    while len(children) < 2:  # the child, and its converter
        await asyncio.sleep(0.01)
        assert not preparing.done()
        children = [*{*psutil.Process().children(recursive=True)} - others]
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
