"""One load measures the machine once and plans once, and nothing of it is done again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from appliance.cli.serve import make_service
from appliance.fit.plan.budget import Budget
from appliance.gateway.admission import Admission
from appliance.launch import loader as launch_loader
from appliance.launch.loader import ModelLoader, PlannedModel, Pool
from appliance.launch.names import named_models
from appliance.settings import ServeSettings
from tests.conftest import Embedded
from tests.launch.specs import Events, spec_of
from tests.launch.tuning.remembered import settings_for


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the machine was measured, and a plan was made."""
    counted: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        real = getattr(module, name)

        def counting(*arguments: Any) -> Any:
            counted[name] += 1
            return real(*arguments)

        monkeypatch.setattr(module, name, counting)

    from appliance.cli import serve

    for module in (launch_loader, serve):
        count(module, "measure_machine")
        count(module, "best_plan")
    return counted


async def test_the_plan_that_serve_makes_at_its_start_is_the_plan_that_is_loaded(
    embedded: Embedded, tmp_path: Path, counts: Counter[str]
) -> None:
    settings = settings_for(embedded, tmp_path)
    settings = ServeSettings(
        model=settings.model,
        models_dir=settings.models_dir,
        state_dir=settings.state_dir,
        no_tune=True,
    )
    service = make_service(settings, named_models(settings), Admission())
    assert counts == {"measure_machine": 1, "best_plan": 1}

    await service.manager.preload(service.preload)
    try:
        assert counts == {"measure_machine": 1, "best_plan": 1}
    finally:
        await service.manager.close()


async def test_a_later_load_measures_once_and_plans_within_what_is_left(
    embedded: Embedded, tmp_path: Path, counts: Counter[str]
) -> None:
    settings_for(embedded, tmp_path)  # remembers the CPU paths
    spec = spec_of(tmp_path, str(embedded.files["Q8_0"]), slots=1)
    pool = Pool(Budget(1 << 30, 64 << 20, "for the test"), 80 << 20)
    loader = ModelLoader({"novels": spec}, pool, Events())

    await loader.prepare("novels")
    whole: PlannedModel = await loader.want("novels")
    assert counts == {"measure_machine": 1, "best_plan": 1}
    smaller = await loader.plan("novels", whole.need_bytes - 1)
    assert smaller.need_bytes < whole.need_bytes
    assert counts == {"measure_machine": 1, "best_plan": 2}
    assert smaller.launch.machine is whole.launch.machine
