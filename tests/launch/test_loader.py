"""One load measures the machine once and plans once,
and nothing of it is done again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.cli.service.service import make_service
from appliance.errors import BadSettings
from appliance.fit.plan.budget import Budget
from appliance.gateway.accounts.accounts import Accounts
from appliance.launch import machine
from appliance.launch.loader import ModelLoader, PlannedModel, Pool
from appliance.launch.names import named_models
from appliance.launch.tuning import first_start, recall
from appliance.settings import ServeSettings
from tests.conftest import CHECKPOINT, Embedded
from tests.launch.specs import Events, spec_of
from tests.launch.tuning.remembered import settings_for


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the machine was measured, and a plan was made."""
    counted: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        real = getattr(module, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            counted[name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, counting)

    count(machine, "measure_device")
    count(recall, "plan")
    return counted


@pytest.mark.parametrize("no_tune", [True, False])
async def test_the_plan_that_serve_makes_at_its_start_is_the_plan_that_is_loaded(
    embedded: Embedded,
    tmp_path: Path,
    counts: Counter[str],
    no_tune: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(first_start, "MAX_OTHERS_SHARE", -1.0)  # too busy: nothing is found
    settings = replace(settings_for(embedded, tmp_path), no_tune=no_tune)
    service = make_service(settings, named_models(settings), Accounts(tmp_path))
    assert counts == {"measure_device": 1, "plan": 1}

    await service.manager.preload(service.preload)
    try:
        assert counts == {"measure_device": 1, "plan": 1}
    finally:
        await service.manager.close()


def test_a_gpu_that_is_not_there_is_reported_before_anything_is_converted(tmp_path: Path) -> None:
    settings = ServeSettings(
        models_dir=tmp_path / "models", state_dir=tmp_path / "state", gpu_layers=20
    )
    with pytest.raises(BadSettings, match="--gpu-layers 20 needs a GPU"):
        make_service(settings, named_models(settings), Accounts(tmp_path))
    assert list(tmp_path.rglob("*.gguf")) == []


async def test_a_later_load_measures_once_and_plans_within_what_is_left(
    embedded: Embedded, tmp_path: Path, counts: Counter[str]
) -> None:
    settings_for(embedded, tmp_path)  # remembers the CPU paths
    spec = spec_of(tmp_path, str(embedded.files["Q8_0"]), slots=1)
    pool = Pool(Budget(1 << 30, 64 << 20, "for the test"), 80 << 20)
    loader = ModelLoader({"novels": spec}, pool, Events())

    await loader.prepare("novels")
    whole: PlannedModel = await loader.want("novels")
    assert counts == {"measure_device": 1, "plan": 1}
    smaller = await loader.plan("novels", whole.need_bytes - 1)
    assert smaller.need_bytes < whole.need_bytes
    assert counts == {"measure_device": 1, "plan": 2}
    assert smaller.launch.machine is whole.launch.machine


async def test_of_several_models_each_event_says_which_one_it_is_about(
    embedded: Embedded, tmp_path: Path
) -> None:
    settings_for(embedded, tmp_path)
    events = Events()
    specs = {
        name: spec_of(tmp_path, str(CHECKPOINT.with_name(name)), quant="Q8_0")
        for name in ("novels-6m", "novels-draft")
    }
    pool = Pool(Budget(1 << 30, 64 << 20, "for the test"), 80 << 20)
    await ModelLoader(specs, pool, events).prepare("novels-draft")
    assert {text.partition(": ")[0] for text in events.texts} == {"novels-draft"}
