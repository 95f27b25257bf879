"""Finds the subcommand, loads its settings, turns errors into messages and exit codes.

Knows no command's work.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Mapping
from typing import NoReturn

from appliance import __version__
from appliance.cli.command import Command, RawCommand
from appliance.cli.commands import COMMANDS
from appliance.cli.completion.vocabulary import vocabulary_of
from appliance.errors import ApplianceError, BadSettings
from appliance.settings import ServeSettings, add_flags, load
from appliance.settings.options import did_you_mean
from appliance.settings.sources import DEBUG_VARIABLE

_DEBUG = "--debug"
_EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
_EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(words: list[str], environ: Mapping[str, str] | None = None) -> int:
    """Runs `appliance WORDS` and returns its exit code; `--help` and `--version` leave by
    `SystemExit`. What nobody foresaw is one line, too, and a traceback only with
    --debug, or where APPLIANCE_DEBUG is not empty.
    """
    environ = os.environ if environ is None else environ
    words, is_debugging = _without_debug(words)
    is_debugging = is_debugging or bool(environ.get(DEBUG_VARIABLE))
    try:
        exit_code = _dispatch(words, environ)
        sys.stdout.flush()  # where the reader has gone, it shows here at the latest
        return exit_code
    except ApplianceError as error:
        if is_debugging:
            traceback.print_exc()
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; without this, Python would complain again
        # when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE
    except Exception as error:
        if is_debugging:
            raise
        print(
            f"error: This should not happen: {type(error).__name__}: {error}. --debug shows where.",
            file=sys.stderr,
        )
        return 1


def _without_debug(words: list[str]) -> tuple[list[str], bool]:
    """It may stand anywhere before `--`."""
    at = words.index("--") if "--" in words else len(words)
    return [word for word in words[:at] if word != _DEBUG] + words[at:], _DEBUG in words[:at]


class _Parser(argparse.ArgumentParser):
    """Says what it does not take as every other error is said: in a line."""

    def error(self, message: str) -> NoReturn:
        raise BadSettings(f"{message[:1].upper()}{message[1:]}. See '{self.prog} --help'.")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="appliance",
        description="Runs a language model on the machine you already own.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"appliance {__version__}")
    parser.add_argument(
        _DEBUG, action="store_true", help="Show where an error comes from; with every command"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS:
        if isinstance(command, Command):
            _add_flags(
                subparsers.add_parser(
                    command.name,
                    help=command.summary,
                    description=command.description,
                    allow_abbrev=False,
                ),
                command,
            )
        else:
            subparsers.add_parser(command.name, help=command.summary, add_help=False)
    return parser


def command_parser(command: Command) -> argparse.ArgumentParser:
    """The parser of one command alone, as the documentation shows it."""
    parser = argparse.ArgumentParser(
        prog=f"appliance {command.name}", description=command.description
    )
    _add_flags(parser, command)
    return parser


def _add_flags(parser: argparse.ArgumentParser, command: Command) -> None:
    add_flags(parser, ServeSettings, command.options)
    if command.add_arguments is not None:
        command.add_arguments(parser)


def _not_taken(word: str, name: str | None, parser: argparse.ArgumentParser) -> BadSettings:
    command = "appliance" if name is None else f"appliance {name}"
    if not word.startswith("-"):
        return BadSettings(f"{word!r} is one argument too many. See '{command} --help'.")
    known = {each.command.text: each.words for each in vocabulary_of(parser)}
    flags = [flag.text for flag in known.get(name or "", ()) if flag.text.startswith("--")]
    return BadSettings(
        f"'{command}' has no flag {word}, and what begins with - is one."
        f"{did_you_mean(word, flags)} '{command} --help' lists its flags."
    )


def _dispatch(words: list[str], environ: Mapping[str, str]) -> int:
    by_name = {command.name: command for command in COMMANDS}
    named = by_name.get(words[0]) if words else None
    if isinstance(named, RawCommand):
        return named.run_raw(words[1:])
    if named is None and words and not words[0].startswith("-"):
        raise BadSettings(
            f"{words[0]!r} is no command.{did_you_mean(words[0], by_name)} 'appliance --help' "
            "lists them."
        )
    parser = build_parser()
    passed_on: list[str] = []
    if named is not None and named.passes_on and "--" in words:
        at = words.index("--")
        words, passed_on = words[:at], words[at + 1 :]
    args, unknown = parser.parse_known_args(words, argparse.Namespace(passed_on=passed_on))
    if unknown:
        raise _not_taken(unknown[0], args.command, parser)
    command = by_name.get(args.command)
    if not isinstance(command, Command):
        from appliance.cli.running import overview

        return overview.run(load(ServeSettings, {}, environ))
    args.parser = parser
    args.read_settings = lambda: load(ServeSettings, vars(args), environ)
    return command.run(args.read_settings(), args)
