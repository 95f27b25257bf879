"""`appliance bench`: measures a server, shows it, and compares it with an earlier run.

Knows no load and no formula.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from pathlib import Path

import msgspec

from appliance.cli.bench.bars import Bar, as_bars, short
from appliance.cli.bench.figures import (
    ALL_DONE,
    GAP_P50,
    GAP_P99,
    TOKENS_PER_S,
    TTFT_P50,
    TTFT_P95,
    Figure,
)
from appliance.cli.bench.loads import Load, Sizes, measured
from appliance.cli.bench.stream import Endpoint, RequestFailed
from appliance.cli.chat.finding import Found, found_server
from appliance.cli.progress_lines import ProgressLines
from appliance.cli.tables.table import table
from appliance.errors import ApplianceError, BadSettings
from appliance.loopback import socket_path
from appliance.settings import ServeSettings

_DRAWN = (TTFT_P50, GAP_P99, TOKENS_PER_S)
_SHOWN = (TTFT_P50, TTFT_P95, GAP_P50, GAP_P99, TOKENS_PER_S, ALL_DONE)


class Report(msgspec.Struct, kw_only=True):
    """What --json prints, and --against reads."""

    model: str
    num_streams: int
    num_prompt_tokens: int
    num_new_tokens: int
    loads: dict[str, dict[str, float]]  # figures by name, of each load

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.num_streams, self.num_prompt_tokens, self.num_new_tokens


def run(settings: ServeSettings, args: argparse.Namespace) -> int:
    """Raises `ApplianceError` if no server answers, or a request fails."""
    earlier = None if args.against is None else _read(Path(args.against))
    sizes = Sizes(
        num_streams=args.streams,
        num_prompt_tokens=args.prompt_tokens,
        num_new_tokens=args.tokens,
    )
    if earlier is not None and earlier.sizes != (args.streams, args.prompt_tokens, args.tokens):
        raise BadSettings(
            f"{args.against} was measured with other sizes: --streams {earlier.num_streams} "
            f"--prompt-tokens {earlier.num_prompt_tokens} --tokens {earlier.num_new_tokens}."
        )
    with found_server(settings, args) as found:
        # numbers that no run had before: what is cached would be measured otherwise
        load = Load(_endpoint(found), sizes, random.Random())
        try:
            loads = asyncio.run(measured(load, ProgressLines(sys.stderr).show))
        except RequestFailed as error:
            raise ApplianceError(str(error)) from error
    report = Report(
        model=found.model,
        num_streams=sizes.num_streams,
        num_prompt_tokens=sizes.num_prompt_tokens,
        num_new_tokens=sizes.num_new_tokens,
        loads=loads,
    )
    print(
        json.dumps(msgspec.to_builtins(report), indent=2) if args.json else as_text(report, earlier)
    )
    return 0


def as_text(report: Report, earlier: Report | None) -> str:
    """A row for each figure, a column for each load; behind it how many times better it is
    than it was. Below, bars.
    """
    head = ("", *report.loads)
    rows = [head, *(_row(figure, report, earlier) for figure in _SHOWN)]
    title = (
        f"{report.model}: {report.num_streams} streams, prompts of {report.num_prompt_tokens} "
        f"words, answers of {report.num_new_tokens} tokens"
    )
    behind = "" if earlier is None else "\n(x: how many times better than the earlier run)"
    return f"{title}\n{table(rows)}{behind}\n\n{_picture(report, earlier)}"


def _picture(report: Report, earlier: Report | None) -> str:
    """Bars of the figures that say most; with an earlier run, a pair for each load."""
    return "\n".join(
        as_bars(
            figure.words,
            [
                Bar(f"{load}{when}", run.loads[load][figure.name])
                for load in report.loads
                for run, when in ([(earlier, ", before")] if earlier else []) + [(report, "")]
                if load in run.loads
            ],
        )
        for figure in _DRAWN
    )


def _row(figure: Figure, report: Report, earlier: Report | None) -> tuple[str, ...]:
    return (figure.words, *(_cell(figure, report, earlier, name) for name in report.loads))


def _cell(figure: Figure, report: Report, earlier: Report | None, load: str) -> str:
    value = report.loads[load][figure.name]
    text = short(value)
    before = None if earlier is None else earlier.loads.get(load, {}).get(figure.name)
    return f"{text} ({figure.gain(value, before):.2f}x)" if before else text


def _endpoint(found: Found) -> Endpoint:
    address = found.server.address
    path = socket_path(address.host)
    return Endpoint(
        host="localhost" if path is not None else address.name,
        port=address.port,
        model=found.model,
        path=path,
        key=found.server.key,
        tls=address.tls(),
    )


def _read(path: Path) -> Report:
    """Raises `BadSettings`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise BadSettings(f"--against {path} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"--against {path} is not what --json prints: {error}.") from error
