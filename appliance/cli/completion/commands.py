"""`completion` as an entry of the table of commands. Knows no shell's language."""

from __future__ import annotations

import argparse

from appliance.cli.command import Command
from appliance.settings import ServeSettings

_SHELLS = ("bash", "zsh", "fish")


def _completion(_settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli.completion.scripts import SHELLS
    from appliance.cli.completion.vocabulary import vocabulary_of

    print(SHELLS[args.shell](vocabulary_of(args.parser)), end="")
    return 0


def _completion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=_SHELLS, metavar="SHELL", help=f"One of {', '.join(_SHELLS)}"
    )


COMPLETION_COMMANDS = (
    Command(
        name="completion",
        summary="Print a script by which a shell completes commands and flags",
        description="bash: `source <(appliance completion bash)` in ~/.bashrc. zsh: the same in "
        "~/.zshrc, behind compinit, with zsh. fish: `appliance completion fish > "
        "~/.config/fish/completions/appliance.fish`.",
        run=_completion,
        options=(),
        add_arguments=_completion_arguments,
    ),
)
