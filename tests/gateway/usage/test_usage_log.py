"""What is written down of requests, what it adds up to, and what a killed process leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from appliance.database.database import Database
from appliance.database.files import WhenDamaged, opened
from appliance.errors import BadRequest
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.observers import CANCELLED
from appliance.gateway.telemetry.metrics import Metrics
from appliance.gateway.usage.counts import Counts, counts_of
from appliance.gateway.usage.log import UsageLog
from appliance.gateway.usage.query import UsageQuery
from appliance.gateway.usage.report import FREE, Prices, UsageReport
from appliance.gateway.usage.rows import UsageFile
from appliance.gateway.usage.tables import (
    FILE_NAME,
    MAX_DAYS,
    MIGRATIONS,
    add_request,
    read_groups,
    roll_up,
)
from appliance.protocol.events import Delta, Drafts, PromptProgress, Shares, Started
from tests.gateway.telemetry_requests import REQUEST
from tests.gateway.usage.summaries import DAY_S, NOON_S, answered, cut_off, refused

ROOT = Path(__file__).parents[3]


class Clock:
    now_s = float(NOON_S)

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def log(clock: Clock) -> AsyncGenerator[UsageLog, None]:
    log = UsageLog(
        UsageFile(Database(None, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)), wall_clock=clock
    )
    yield log
    await log.close()


async def report_by(
    log: UsageLog,
    by: str,
    *,
    since: str | None = None,
    key: str | None = None,
    prices: Prices = FREE,
) -> UsageReport:
    query = UsageQuery.of(by, since, key=key, prices=prices, now=lambda: NOON_S)
    return await log.report(query)


# --- counting -------------------------------------------------------------------------


async def test_usage_is_told_apart_by_what_is_asked_for(log: UsageLog, clock: Clock) -> None:
    log.request_ended(answered(key="ann"))
    log.request_ended(answered(key="bob", model="poems", prompt=20))
    clock.now_s -= DAY_S
    log.request_ended(answered(key="ann", completion=1))

    ann, bob = (await report_by(log, "key")).rows
    assert (ann.key, ann.requests, ann.prompt_tokens, ann.completion_tokens) == ("ann", 2, 20, 5)
    assert (bob.key, bob.requests, bob.prompt_tokens, bob.completion_tokens) == ("bob", 1, 20, 4)
    by_day = (await report_by(log, "day,model")).rows
    assert [(row.day, row.model, row.requests) for row in by_day] == [
        ("2024-10-03", "novels", 1),
        ("2024-10-04", "novels", 1),
        ("2024-10-04", "poems", 1),
    ]
    assert (await report_by(log, "")).total.requests == 3
    assert (await report_by(log, "", since="2024-10-04")).total.requests == 2
    assert (await report_by(log, "", since="1h")).total.requests == 2
    assert (await report_by(log, "key", key="bob")).total.prompt_tokens == 20


async def test_seconds_and_their_price(log: UsageLog) -> None:
    log.request_ended(answered(prompt=10, completion=4))  # 0.1 and 0.2 s
    drafts = Drafts(num_drafted=6, num_accepted=3)
    shares = Shares(prompt_ms=50.0, answer_ms=100.0, draft_ms=60.0)
    log.request_ended(answered(prompt=20, cached=15, completion=6, drafts=drafts, shares=shares))
    prices = Prices(price_per_hour=3.6, watts=100.0, gco2_per_kwh=360.0)

    report = await report_by(log, "key", prices=prices)
    (row,) = report.rows
    assert (row.drafted_tokens, row.accepted_draft_tokens, row.cached_prompt_tokens) == (6, 3, 15)
    assert row.machine_s == pytest.approx(0.1 + 0.2 + 0.05 + 0.1 + 0.06)
    assert row.cost == pytest.approx(0.51e-3)
    assert row.energy_j == pytest.approx(51.0)
    assert row.gco2e_g == pytest.approx(51.0 / 3.6e6 * 360.0)
    seconds = report.seconds_per_token["novels"]
    assert seconds.prompt == pytest.approx(0.15 / 15)
    assert seconds.completion == pytest.approx(0.36 / 10)
    assert seconds.drafted == pytest.approx(0.01)
    assert seconds.saved_by_cache_s == pytest.approx(0.15)


async def test_tokens_of_a_cut_off_answer_take_what_others_took(log: UsageLog) -> None:
    log.request_ended(answered(key="ann"))  # 10 ms and 50 ms a token
    log.request_ended(cut_off(key="bob", prompt=10, completion=2))
    log.request_ended(refused(key="bob"))

    report = await report_by(log, "key")
    bob = report.rows[1]
    assert (bob.requests, bob.failed, bob.prompt_tokens, bob.completion_tokens) == (2, 1, 10, 2)
    assert bob.estimated_s == bob.machine_s == pytest.approx(0.1 + 0.1)
    assert report.seconds_per_token["novels"].prompt == pytest.approx(0.01)
    assert (bob.cost, bob.energy_j, bob.gco2e_g) == (None, None, None)


async def test_what_a_stopped_answer_had_from_the_cache_took_no_time(log: UsageLog) -> None:
    log.request_ended(answered(key="ann"))  # 10 ms and 50 ms a token
    log.request_ended(cut_off(key="bob", prompt=10, cached=8, completion=2))

    report = await report_by(log, "key")
    bob = report.rows[1]
    assert (bob.failed, bob.prompt_tokens, bob.cached_prompt_tokens) == (0, 10, 8)
    assert bob.estimated_s == pytest.approx(0.02 + 0.1)
    assert report.seconds_per_token["novels"].prompt == pytest.approx(0.01)


async def test_a_stopped_answer_counts_what_its_progress_told(log: UsageLog) -> None:
    metrics = Metrics()
    metrics.requests.add_listener(log)
    followed = metrics.requests.started(Caller("ann"), "novels", REQUEST)
    followed.event(Started(1, 10))
    progress = PromptProgress(
        num_prompt_tokens=10, num_cached_tokens=8, num_prefilled_tokens=10, time_ms=1.0
    )
    followed.event(Delta(request_id=1, text="", num_tokens=0, progress=progress))
    followed.event(Delta(request_id=1, text="a", num_tokens=1))
    followed.ended(CANCELLED)

    total = (await report_by(log, "")).total
    assert (total.failed, total.prompt_tokens, total.cached_prompt_tokens) == (0, 10, 8)
    assert total.completion_tokens == 1


async def test_a_resumed_answer_failed_if_its_last_part_did(log: UsageLog) -> None:
    for outcome, num_failed in (("cancelled", 0), ("worker_lost", 1), ("cancelled", 0)):
        log.request_ended(cut_off(outcome=outcome, resume_id="a.0"))
        total = (await report_by(log, "")).total
        assert (total.requests, total.failed) == (1, num_failed)


async def test_a_resumed_answer_is_one_request(log: UsageLog) -> None:
    log.request_ended(cut_off(resume_id="a.0", prompt=10, completion=2))
    log.request_ended(cut_off(resume_id="a.0", prompt=0, completion=1))
    first = (await report_by(log, "")).total
    assert (first.requests, first.failed, first.completion_tokens) == (1, 0, 3)
    log.request_ended(answered(resume_id="a.0", prompt=10, completion=4))
    whole = (await report_by(log, "")).total
    assert (whole.requests, whole.failed) == (1, 0)
    assert (whole.prompt_tokens, whole.completion_tokens) == (10, 4)
    assert whole.machine_s == pytest.approx(0.3)
    assert whole.estimated_s == 0.0


@pytest.mark.parametrize(
    ("by", "since", "param"), [("colour", None, "by"), ("key", "yesterday", "since")]
)
def test_what_cannot_be_read_is_refused(by: str, since: str | None, param: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        UsageQuery.of(by, since, key=None, prices=FREE, now=lambda: NOON_S)
    assert refusal.value.param == param


# --- growth ---------------------------------------------------------------------------


def test_days_before_yesterday_become_sums(tmp_path: Path) -> None:
    counts = counts_of(answered())
    with opened(tmp_path / FILE_NAME, MIGRATIONS) as connection:
        for days_ago in (3, 3, 2, 1, 0):
            add_request(connection, NOON_S - days_ago * DAY_S, "ann", "novels", counts)
        before = read_groups(connection, ("day",), 0.0, None)
        roll_up(connection, NOON_S)
        roll_up(connection, NOON_S)
        (num_requests,) = connection.execute("SELECT count(*) FROM requests").fetchone()
        (num_days,) = connection.execute("SELECT count(*) FROM days").fetchone()
        after = read_groups(connection, ("day",), 0.0, None)
    assert (num_requests, num_days) == (2, 2)
    assert [(group.names["day"], group.counts.requests) for group in after] == [
        ("2024-10-01", 2),
        ("2024-10-02", 1),
        ("2024-10-03", 1),
        ("2024-10-04", 1),
    ]
    assert after == before


def test_a_day_of_too_many_requests_is_summed_before_it_ends(tmp_path: Path) -> None:
    with opened(tmp_path / FILE_NAME, MIGRATIONS) as connection:
        for _ in range(10):
            add_request(connection, NOON_S, "ann", "novels", Counts(requests=1))
            roll_up(connection, NOON_S, most=3)
        (num_requests,) = connection.execute("SELECT count(*) FROM requests").fetchone()
        (total,) = read_groups(connection, (), 0.0, None)
    assert (num_requests, total.counts.requests) == (3, 10)


def test_days_are_bounded_by_their_number_whatever_the_clock_says(tmp_path: Path) -> None:
    with opened(tmp_path / FILE_NAME, MIGRATIONS) as connection:
        for day in range(MAX_DAYS + 5):
            add_request(connection, day * DAY_S, "ann", "novels", Counts(requests=1))
        roll_up(connection, 100_000 * DAY_S)
        groups = read_groups(connection, ("day",), 0.0, None)
    assert len(groups) == MAX_DAYS
    assert groups[0].names["day"] == "1970-01-06"


# --- what is left of a process --------------------------------------------------------


async def test_what_was_counted_a_second_ago_outlives_a_killed_process(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.gateway.usage.writer", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    written = int(writer.stdout.readline())  # committed; as many again were only submitted
    writer.kill()
    writer.wait()
    writer.stdout.close()
    log = UsageLog(UsageFile.in_folder(tmp_path))
    total = (await report_by(log, "")).total
    await log.close()
    assert written <= total.requests <= 2 * written
    assert total.prompt_tokens == 10 * total.requests


async def test_a_folder_that_cannot_be_written_costs_only_the_memory_of_it(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    log = UsageLog(UsageFile.in_folder(tmp_path / "state"))
    log.request_ended(answered())
    assert (await report_by(log, "")).total.requests == 1
    await log.close()
