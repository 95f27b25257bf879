"""`appliance usage`: what each key and each model has used, and what that cost.

Knows no server: it reads what one has written, or still writes, in the state folder.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import msgspec

from appliance.cli.tables.table import table
from appliance.cli.usage.recording import prices_of
from appliance.database.files import opened
from appliance.errors import BadRequest, BadSettings
from appliance.gateway.usage.query import UsageQuery, read_report
from appliance.gateway.usage.report import UsageNumbers, UsageReport, UsageRow
from appliance.gateway.usage.tables import FILE_NAME, MIGRATIONS
from appliance.settings import ServeSettings

_HEAD = ("requests", "failed", "prompt", "cached", "answer", "drafted", "accepted", "machine s")


def run(settings: ServeSettings, args: argparse.Namespace) -> int:
    """Raises `BadSettings` for what cannot be read of `args`, `BadDatabase` and
    `StorageFailed` where the file cannot be.
    """
    try:
        query = UsageQuery.of(
            args.by, args.since, key=None, prices=prices_of(settings), now=time.time
        )
    except BadRequest as error:
        raise BadSettings(f"--{error.param}: {error.message}") from error
    path = settings.state_dir / FILE_NAME
    if not path.exists():
        raise BadSettings(
            f"Nothing was used yet: there is no {path}. Check --state-dir, which is the server's."
        )
    with opened(path, MIGRATIONS) as connection:
        report = read_report(connection, query)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        print(as_text(report, query.by))
    return 0


def as_text(report: UsageReport, by: Sequence[str]) -> str:
    """A line for each row and one for the total; below them what a token takes."""
    told_apart = report.rows if by else []
    all_numbers: list[UsageNumbers] = [*told_apart, report.total]
    extras = [
        (title, cells)
        for title, cells in (
            ("cost", [each.cost for each in all_numbers]),
            ("energy J", [each.energy_j for each in all_numbers]),
            ("gCO2e", [each.gco2e_g for each in all_numbers]),
        )
        if any(cell is not None for cell in cells)
    ]
    rows = [(*(by or ("",)), *_HEAD, *(title for title, _ in extras))]
    for at, numbers in enumerate(all_numbers):
        names = _names(numbers, by) if at < len(told_apart) else _total(len(by))
        more = ("-" if cells[at] is None else f"{cells[at]:.4f}" for _, cells in extras)
        rows.append((*names, *_cells(numbers), *more))
    return "\n".join([table(rows), "", *_token_lines(report)])


def _names(numbers: UsageNumbers, by: Sequence[str]) -> tuple[str, ...]:
    assert isinstance(numbers, UsageRow)
    return tuple(str(getattr(numbers, name)) for name in by)


def _total(num_names: int) -> tuple[str, ...]:
    return ("total", *[""] * (num_names - 1))


def _cells(numbers: UsageNumbers) -> tuple[str, ...]:
    counted = (
        numbers.requests,
        numbers.failed,
        numbers.prompt_tokens,
        numbers.cached_prompt_tokens,
        numbers.completion_tokens,
        numbers.drafted_tokens,
        numbers.accepted_draft_tokens,
    )
    return (*map(str, counted), f"{numbers.machine_s:.2f}")


def _token_lines(report: UsageReport) -> list[str]:
    return [
        f"{model}: a token takes {_ms(each.prompt)} in a prompt, {_ms(each.completion)} in an "
        f"answer; the cache saved {each.saved_by_cache_s:.1f} s"
        for model, each in report.seconds_per_token.items()
        if each.prompt is not None or each.completion is not None
    ]


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.3f} ms"
