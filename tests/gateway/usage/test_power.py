"""Power as it is read, and what it makes of requests: joules, counted and told."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from appliance.api.app import create_app
from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.gateway.usage.log import UsageLog
from appliance.gateway.usage.power import FixedPower, MeteredPower
from appliance.gateway.usage.query import UsageQuery
from appliance.gateway.usage.rows import UsageFile
from appliance.gateway.usage.tables import MIGRATIONS
from appliance.protocol.events import Event, Finished, FinishReason, Shares, Stages, Started, Usage
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_to
from tests.gateway.usage.summaries import answered, cut_off

MEASURED: tuple[Event, ...] = (
    Started(1, 5),
    Finished(
        request_id=1,
        reason=FinishReason.STOP,
        usage=Usage(num_prompt_tokens=5, num_cached_tokens=2, num_completion_tokens=5),
        stages=Stages(
            queue_ms=1.0,
            prefill_ms=900.0,
            decode_ms=900.0,
            shares=Shares(prompt_ms=100.0, answer_ms=300.0, draft_ms=50.0),
        ),
    ),
)


class Meter:
    source = "a test"

    def __init__(self, *readings: float | None) -> None:
        self._readings = iter(readings)

    def watts(self, _now_s: float, /) -> float | None:
        return next(self._readings)


@pytest.fixture
async def usage() -> AsyncGenerator[UsageLog, None]:
    usage = UsageLog(
        UsageFile(Database(None, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)),
        power=FixedPower(20.0),
    )
    yield usage
    await usage.close()


def test_the_last_readings_are_averaged_and_missing_ones_left_out() -> None:
    power = MeteredPower(Meter(None, 10.0, 20.0, *[40.0] * 10, None))
    power.read()
    assert power.watts is None
    power.read()
    power.read()
    assert power.watts == 15.0
    for _ in range(10):
        power.read()
    assert power.watts == 40.0


def test_a_meter_that_is_gone_is_not_believed_for_long() -> None:
    power = MeteredPower(Meter(10.0, 20.0, None, None))
    for _ in range(4):
        power.read()
    assert power.watts is None


async def test_energy_is_machine_time_times_power(usage: UsageLog) -> None:
    usage.request_ended(answered())  # 0.3 s
    usage.request_ended(cut_off())  # as many tokens of the prompt, and 2 of 4: 0.2 s
    total = (await usage.report(UsageQuery())).total
    assert total.machine_s == pytest.approx(0.5)
    assert total.energy_j == pytest.approx(10.0)


async def test_an_answers_usage_has_its_energy(usage: UsageLog) -> None:
    app = create_app(gateway_around(ScriptedClient(*MEASURED), usage=usage))
    async with http_to(app) as http:
        one = (await http.post("/v1/completions", json={"prompt": "Once"})).json()
        two = (await http.post("/v1/completions", json={"prompt": "Once", "n": 2})).json()
    assert one["usage"]["x_energy_j"] == 9.0
    assert two["usage"]["x_energy_j"] == 18.0


async def test_where_a_worker_told_no_times_there_is_none(usage: UsageLog) -> None:
    app = create_app(gateway_around(ScriptedClient(*ANSWER), usage=usage))
    async with http_to(app) as http:
        answer = (await http.post("/v1/completions", json={"prompt": "Once"})).json()
    assert "x_energy_j" not in answer["usage"]
