"""`bench` as an entry of the table of commands, with its flags. Knows nothing of its work."""

from __future__ import annotations

import argparse

from appliance.cli.chat.commands import SERVER_OPTIONS, add_counts, add_url
from appliance.cli.command import Command
from appliance.settings import ServeSettings


def _bench(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli.bench import bench

    return bench.run(settings, args)


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    add_url(parser)
    add_counts(
        parser,
        ("--streams", 4, "How many requests at once"),
        ("--prompt-tokens", 256, "Length of each prompt in short words, about a token each"),
        ("--tokens", 64, "Length of each answer"),
    )
    parser.add_argument(
        "--against", metavar="FILE", help="Compare with an earlier run, as --json printed it"
    )
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of a table"
    )


BENCH_COMMANDS = (
    Command(
        name="bench",
        summary="Measure how fast a server answers",
        description="One stream, several at once, and several with a shared prefix: time to the "
        "first token, gaps between pieces of the answer, tokens a second. Finds or starts a server "
        "as `chat` does. Exit code 1: no server answers, or a request fails.",
        run=_bench,
        options=SERVER_OPTIONS,
        add_arguments=_bench_arguments,
    ),
)
