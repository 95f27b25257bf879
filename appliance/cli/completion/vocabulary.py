"""The commands, flags and fixed words that a parser takes. Knows no shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

_MAX_HELP_CHARS = 60
_MODEL = "MODEL"  # as the help calls the argument that names one


@dataclass(frozen=True)
class Word:
    text: str
    help: str  # one line
    takes_value: bool = False  # a flag that another word follows


@dataclass(frozen=True)
class CommandWords:
    command: Word
    words: tuple[Word, ...]
    takes_model: bool = False  # the name of one, behind the command


def vocabulary_of(parser: argparse.ArgumentParser) -> tuple[CommandWords, ...]:
    # argparse offers none of this in public, and shows it as text only
    return tuple(
        CommandWords(
            _word(named.dest, named.help),
            tuple(_words(group.choices[named.dest])),
            takes_model=_takes_model(group.choices[named.dest]),
        )
        for group in _groups(parser)
        for named in group._choices_actions
    )


def _takes_model(parser: argparse.ArgumentParser) -> bool:
    return any(action.metavar == _MODEL and not action.option_strings for action in parser._actions)


def _words(parser: argparse.ArgumentParser) -> Iterator[Word]:
    for group in _groups(parser):
        yield from (_word(named.dest, named.help) for named in group._choices_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            continue
        for flag in action.option_strings:
            yield _word(flag, action.help, takes_value=action.nargs != 0)
        if not action.option_strings:
            yield from (_word(str(choice), "") for choice in action.choices or ())


def _groups(
    parser: argparse.ArgumentParser,
) -> Iterator[argparse._SubParsersAction[argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield action


def _word(text: str, help_text: str | None, *, takes_value: bool = False) -> Word:
    line = " ".join((help_text or "").replace("%%", "%").split())
    if len(line) > _MAX_HELP_CHARS:
        line = line[:_MAX_HELP_CHARS].rsplit(" ", 1)[0] + " …"
    return Word(text, line, takes_value)
