"""What a subcommand is: its name, its flags, and what runs.

Knows none of them. Each has one function:

- `run(settings: ServeSettings, args: argparse.Namespace) -> int` where its flags come
  from the settings declarations (`options` names them, None: all) - the settings are
  loaded before, from every source;
- `run_raw(argv: list[str]) -> int` where it parses its own arguments.

It returns the exit code, or raises an `ApplianceError` that `main` prints and turns
into one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.settings import ServeSettings
from appliance.settings.options import Parser


@dataclass(frozen=True, kw_only=True)
class Command:
    """A subcommand whose flags are settings."""

    name: str
    summary: str
    description: str
    run: Callable[[ServeSettings, argparse.Namespace], int]
    options: tuple[str, ...] | None = None  # those it shows; None: all
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None
    passes_on: bool = False  # what stands behind `--` to another program, as `args.passed_on`


@dataclass(frozen=True)
class RawCommand:
    """A subcommand that parses its own arguments."""

    name: str
    summary: str
    run_raw: Callable[[list[str]], int]
    parsers: Callable[[], list[argparse.ArgumentParser]]  # its own, and those of its subcommands


def argument_type(parser: Parser) -> Callable[[str], Any]:
    """What argparse reads a flag's value with that is read as an option's."""

    def read(text: str) -> Any:
        try:
            return parser.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be {parser.allowed} (got {text!r})") from error

    return read


def add_action(parser: argparse.ArgumentParser, actions: Mapping[str, str]) -> None:
    """The first word behind a command's name: which of these it is to do, and what each is."""
    parser.add_argument(
        "action",
        choices=actions,
        metavar="ACTION",
        help="; ".join(f"{name}: {what}" for name, what in actions.items()),
    )
