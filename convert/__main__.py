"""The command `appliance-convert`: a conversion, or one of its subcommands.

Knows no options.
"""

from __future__ import annotations

import argparse
import sys

from convert.commands import convert, evaluate, importance, lora, plan
from convert.commands.dispatch import execute

SUBCOMMANDS = {"plan": plan, "importance": importance, "evaluate": evaluate, "lora": lora}
_AS_OPTION = "--lora"  # as people look for it


def main(argv: list[str] | None = None) -> int:
    """Runs what the first argument names, else a conversion;
    for the exit codes see `execute`.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] == _AS_OPTION:
        argv = ["lora", *argv[1:]]
    subcommand = SUBCOMMANDS.get(argv[0]) if argv else None
    if subcommand is not None:
        return execute(subcommand.build_parser(), subcommand.run, argv[1:])
    return execute(convert.build_parser(), convert.run, argv)


def parsers() -> list[argparse.ArgumentParser]:
    """That of a conversion first, then those of the subcommands."""
    return [command.build_parser() for command in (convert, *SUBCOMMANDS.values())]


if __name__ == "__main__":
    sys.exit(main())
