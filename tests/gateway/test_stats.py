"""Percentiles, shares and rates of the last five minutes and of the last hour."""

from __future__ import annotations

import pytest

from appliance.gateway.accounts.caller import Caller
from appliance.gateway.telemetry.gauges import ModelState
from appliance.gateway.telemetry.metrics import Metrics
from appliance.gateway.telemetry.request_log import MAX_SAMPLES
from appliance.protocol.events import Drafts
from appliance.protocol.health import Heartbeat, WorkerHealth, WorkerState
from tests.gateway.samples import values
from tests.gateway.telemetry_requests import REQUEST, Clock, answer


async def test_percentiles_of_requests_are_exact() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    for number in range(1, 101):
        answer(metrics, clock, accepted_s=0.0, queue_ms=100.0 * number, first_s=number / 8)
    hour = (await metrics.stats.record()).last_hour.models["novels"]
    assert (hour.queue_s.count, hour.queue_s.p50, hour.queue_s.p95, hour.queue_s.p99) == (
        100,
        5.0,
        pytest.approx(9.5),
        pytest.approx(9.9),
    )
    assert (hour.first_token_s.p50, hour.first_token_s.p99) == (50 / 8, 99 / 8)
    assert (hour.total_s.p50, hour.total_s.p95) == (50 / 8, 95 / 8)
    assert hour.outcomes == {"stop": 100}


async def test_the_queue_is_all_that_comes_before_a_slot() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    answer(metrics, clock, accepted_s=0.5, queue_ms=250.0)
    five = (await metrics.stats.record()).last_5_minutes
    assert five.models["novels"].queue_s.p50 == five.keys["alice"].queue_s.p50 == 0.75
    assert values(metrics, "appliance_queue_time_seconds_sum") == {"novels": 0.75}
    assert values(metrics, "appliance_request_time_seconds_sum") == {"novels": 2.0}


async def test_the_queue_ends_before_what_was_computed_begins() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    # word of its acceptance came late: at the same time as the first token
    answer(metrics, clock, accepted_s=2.0, queue_ms=250.0, first_s=2.0, prefill_ms=500.0)
    assert (await metrics.stats.record()).last_hour.models["novels"].queue_s.p50 == 1.5


async def test_older_requests_are_in_the_hour_alone() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    answer(metrics, clock, first_s=1.0)
    clock.pass_s(301)
    answer(metrics, clock, first_s=2.0)
    record = await metrics.stats.record()
    assert record.uptime_s == 304.0
    assert record.last_5_minutes.models["novels"].first_token_s.p50 == 2.0
    assert record.last_5_minutes.models["novels"].covers_s == 300.0
    assert record.last_hour.models["novels"].requests == 2
    assert record.last_hour.models["novels"].covers_s == 304.0  # no longer than it runs
    clock.pass_s(3600)
    assert (await metrics.stats.record()).last_hour.models["novels"].requests == 0


async def test_more_requests_than_are_kept_make_the_window_shorter() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    for _ in range(MAX_SAMPLES + 5):
        answer(metrics, clock, accepted_s=0.0, first_s=0.25)
    hour = (await metrics.stats.record()).last_hour.models["novels"]
    assert hour.requests == MAX_SAMPLES
    assert hour.covers_s == (MAX_SAMPLES - 1) * 0.25
    assert values(metrics, "appliance_requests_total") == {"novels,stop": MAX_SAMPLES + 5}


async def test_models_that_went_are_forgotten_when_others_come() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    answer(metrics, clock, model_id="gone")
    clock.pass_s(3600)
    answer(metrics, clock, model_id="novels")
    answer(metrics, clock, model_id="novels")
    assert (await metrics.stats.record()).last_hour.models.keys() == {"novels"}


async def test_times_between_tokens_are_known_by_model_and_by_key() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    answer(metrics, clock, caller="alice", gaps_s=(0.1,) * 90)
    answer(metrics, clock, caller="bob", gaps_s=(0.4,) * 10)
    hour = (await metrics.stats.record()).last_hour
    both, bob = hour.models["novels"].between_tokens_s, hour.keys["bob"].between_tokens_s
    assert (both.count, bob.count) == (100, 10)
    assert both.p50 == pytest.approx(0.1, rel=0.01)
    assert both.p95 == bob.p50 == pytest.approx(0.4, rel=0.01)
    assert values(metrics, "appliance_time_between_tokens_seconds_bucket")["0.3,novels"] == 90
    assert values(metrics, "appliance_time_between_tokens_seconds_sum") == {
        "novels": pytest.approx(90 * 0.1 + 10 * 0.4)
    }


async def test_shares_of_the_cache_and_of_drafts() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    answer(metrics, clock, cached=8, drafts=Drafts(10, 3))
    answer(metrics, clock, caller="bob", cached=0, drafts=Drafts(10, 6))
    hour = (await metrics.stats.record()).last_hour
    assert hour.models["novels"].prefix_hit_rate == 8 / 20
    assert hour.models["novels"].draft_acceptance == 9 / 20
    assert hour.keys["bob"].prefix_hit_rate == 0.0
    assert hour.keys["bob"].draft_acceptance == 0.6
    assert values(metrics, "appliance_key_tokens_total") == {
        "alice,cached,novels": 8,
        "alice,completion,novels": 1,
        "alice,prompt,novels": 10,
        "bob,cached,novels": 0,
        "bob,completion,novels": 1,
        "bob,prompt,novels": 10,
    }


async def test_what_failed_counts_as_its_outcome_and_has_no_times() -> None:
    metrics = Metrics(Clock())
    metrics.requests.started(Caller("alice"), "novels", REQUEST).ended("queue_full")
    hour = (await metrics.stats.record()).last_hour.keys["alice"]
    assert hour.outcomes == {"queue_full": 1}
    assert (hour.total_s.count, hour.queue_s.count, hour.total_s.p99) == (0, 0, None)
    assert (hour.prefix_hit_rate, hour.draft_acceptance) == (None, None)


class Engine:
    """A model whose worker has counted so much."""

    def __init__(self) -> None:
        self.beat: Heartbeat | None = None

    def count(self, num_steps: int, num_rows: int, num_tokens: int) -> None:
        self.beat = Heartbeat(
            num_running=0,
            num_waiting=0,
            num_steps=num_steps,
            num_used_cells=0,
            step_age_s=0.0,
            num_sampled_tokens=num_tokens,
            num_rows=num_rows,
        )

    def states(self) -> list[ModelState]:
        health = WorkerHealth(
            state=WorkerState.READY,
            pid=1,
            num_restarts=0,
            last_error=None,
            heartbeat=self.beat,
            heartbeat_age_s=0.0,
        )
        return [ModelState("novels", None, health)]


async def test_rates_of_the_engine_go_on_when_a_worker_is_replaced() -> None:
    clock, engine = Clock(), Engine()
    metrics = Metrics(clock)
    metrics.watch(engine.states)
    engine.count(1000, 5000, 800)
    metrics.stats.look()
    clock.pass_s(10)
    assert (await metrics.stats.record()).last_hour.models == {}  # nothing to compare with yet
    engine.count(1100, 5400, 900)
    metrics.stats.look()
    clock.pass_s(10)
    engine.beat = None  # it died
    metrics.stats.look()
    clock.pass_s(10)
    engine.count(50, 200, 20)  # since another one started
    metrics.stats.look()
    rates = (await metrics.stats.record()).last_hour.models["novels"].engine
    assert rates is not None
    assert rates.steps_per_s == 150 / 30
    assert rates.rows_per_step == 600 / 150
    assert rates.tokens_per_s == 120 / 30


async def test_an_engine_without_steps_has_no_rows_per_step() -> None:
    clock, engine = Clock(), Engine()
    metrics = Metrics(clock)
    metrics.watch(engine.states)
    for _ in range(2):
        metrics.stats.look()
        clock.pass_s(10)
    rates = (await metrics.stats.record()).last_5_minutes.models["novels"].engine
    assert rates is not None
    assert (rates.steps_per_s, rates.rows_per_step) == (0.0, None)


async def test_of_one_key_alone_only_its_own_numbers() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    answer(metrics, clock, caller="alice", model_id="novels", first_s=1.0, gaps_s=(0.5,))
    answer(metrics, clock, caller="alice", model_id="poems", first_s=3.0)
    answer(metrics, clock, caller="bob", first_s=2.0)
    record = await metrics.stats.record("alice")
    for window in (record.last_5_minutes, record.last_hour):
        assert (window.models, [*window.keys]) == ({}, ["alice"])
        assert window.keys == {"alice": (await metrics.stats.record()).last_hour.keys["alice"]}
        assert window.keys["alice"].requests == 2
        assert window.keys["alice"].between_tokens_s.count == 1
    clock.pass_s(300)
    record = await metrics.stats.record("alice")
    assert record.last_5_minutes.keys["alice"].requests == 0
    assert record.last_hour.keys["alice"].first_token_s.p99 == 3.0
    nobody = (await metrics.stats.record("carol")).last_hour.keys["carol"]
    assert (nobody.requests, nobody.total_s.p50) == (0, None)
