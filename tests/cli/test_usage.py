"""`appliance usage`: what a server has written down, as a table and as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from appliance.cli.dispatch import main
from appliance.database.files import opened
from appliance.gateway.usage.counts import counts_of
from appliance.gateway.usage.tables import FILE_NAME, MIGRATIONS, add_request
from tests.gateway.usage.summaries import NOON_S, answered, cut_off


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    with opened(tmp_path / FILE_NAME, MIGRATIONS) as connection:
        for key, summary in (
            ("ann", answered()),
            ("bob", answered()),
            ("bob", cut_off(outcome="worker_lost")),
        ):
            add_request(connection, NOON_S, key, "novels", counts_of(summary))
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], state_dir: Path, *arguments: str) -> str:
    assert main(["usage", "--state-dir", str(state_dir), *arguments]) == 0
    return capsys.readouterr().out


def test_a_line_for_each_key_and_the_total(
    capsys: pytest.CaptureFixture[str], state_dir: Path
) -> None:
    text = printed(capsys, state_dir, "--by", "key", "--price-per-hour", "36")
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    assert lines[0] == [
        *("key", "requests", "failed", "prompt", "cached", "answer"),
        *("drafted", "accepted", "machine s", "cost"),
    ]
    assert lines[1:4] == [
        ["ann", "1", "0", "10", "0", "4", "0", "0", "0.30", "0.0030"],
        ["bob", "2", "1", "20", "0", "6", "0", "0", "0.50", "0.0050"],
        ["total", "3", "1", "30", "0", "10", "0", "0", "0.80", "0.0080"],
    ]
    assert "novels: a token takes 10.000 ms in a prompt, 50.000 ms in an answer" in text


def test_one_line_where_nothing_is_told_apart(
    capsys: pytest.CaptureFixture[str], state_dir: Path
) -> None:
    lines = printed(capsys, state_dir, "--by", "").splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["requests", "total"]
    assert lines[2] == ""


def test_json_is_what_the_server_gives(capsys: pytest.CaptureFixture[str], state_dir: Path) -> None:
    found = json.loads(printed(capsys, state_dir, "--json", "--by", "day", "--watts", "10"))
    assert [(row["day"], row["requests"]) for row in found["rows"]] == [("2024-10-04", 3)]
    assert found["total"]["energy_j"] == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--by", "colour"], "'colour'"), (["--since", "yesterday"], "'yesterday'")],
)
def test_what_cannot_be_read_is_named(
    capsys: pytest.CaptureFixture[str], state_dir: Path, arguments: list[str], message: str
) -> None:
    assert main(["usage", "--state-dir", str(state_dir), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_where_no_server_ran_that_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["usage", "--state-dir", str(tmp_path)]) == 2
    assert "Nothing was used yet" in capsys.readouterr().err
